"""Several servers: the least busy first, a dead one set aside for a while, one request alone where nothing is known."""

from __future__ import annotations

from strop.models.endpoints.replicas import ALONE_S, FIRST_ASIDE_S, Replica, open_replicas


def proven(*urls: str, most: int = 4) -> list[Replica]:
    """Servers that have answered once."""
    replicas = open_replicas(urls, most=most)
    for replica in replicas.all:
        replica.start(0)
        replica.land(0.1, latency=0.1, refused=False)
    return replicas.all


def test_the_least_busy_goes_first_and_ties_take_turns() -> None:
    replicas = open_replicas(["a", "b"], most=4)
    replicas.all = proven("a", "b")
    taken = []
    for _ in range(8):
        replica = replicas.choose(1.0)
        assert replica is not None
        replica.start(1.0)
        taken.append(replica.url)
    assert sorted(taken) == ["a"] * 4 + ["b"] * 4
    assert all({first, second} == {"a", "b"} for first, second in zip(taken[::2], taken[1::2], strict=True))
    assert replicas.choose(1.0) is None
    replicas.all[1].land(2.0, latency=1.0, refused=False)
    assert replicas.choose(2.0) is replicas.all[1]


def test_a_server_that_has_said_nothing_gets_one_request_until_it_speaks_or_time_passes() -> None:
    replicas = open_replicas(["a"], most=4)
    (only,) = replicas.all
    only.start(0.0)
    assert replicas.choose(0.5) is None
    assert replicas.next_room(0.5) == ALONE_S
    assert replicas.choose(ALONE_S) is only
    only.land(0.6, latency=0.6, refused=False)
    assert replicas.choose(0.6) is only


def test_a_dead_server_is_set_aside_longer_each_time_and_counts_one_strike_for_all_that_were_on_their_way() -> None:
    replicas = open_replicas(["a", "b"], most=4)
    replicas.all = proven("a", "b")
    first, second = replicas.all
    for _ in range(3):
        first.start(1.0)
    assert first.miss(2.0, started=1.0)
    assert not first.miss(2.1, started=1.0)
    assert not first.miss(2.2, started=1.0)
    assert (first.strikes, first.pacer.flying) == (1, 0)
    assert replicas.choose(2.3) is second
    assert replicas.next_room(2.3) == 2.0 + FIRST_ASIDE_S
    first.start(2.6)
    assert not first.room(2.7)  # one request finds out whether it is back
    assert first.miss(2.8, started=2.6)
    assert first.aside_until == 2.8 + 2 * FIRST_ASIDE_S
    first.start(4.0)
    first.land(4.1, latency=0.1, refused=False)
    assert first.strikes == 0
    assert first.room(4.2)


def test_servers_that_never_answered_are_given_up_soon_and_others_late() -> None:
    replicas = open_replicas(["a"], most=4)
    (only,) = replicas.all
    for now in (1.0, 3.0, 6.0):
        assert not replicas.given_up(now, retries=2, patience=600)
        only.start(now)
        assert only.miss(now + 0.1, started=now)
    assert replicas.given_up(6.2, retries=2, patience=600)
    only.answered_s = 5.0
    assert not replicas.given_up(604.9, retries=2, patience=600)
    assert replicas.given_up(605.0, retries=2, patience=600)
