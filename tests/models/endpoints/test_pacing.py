"""Adaptive concurrency against servers that are formulas: no clock, no network."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.models.endpoints.pacing import FIRST_LIMIT, Pacer

Serve = Callable[[int, Random], tuple[float, bool]]
"""From the requests in flight to a latency and whether the request is refused."""


def drive(pacer: Pacer, serve: Serve, *, requests: int, demand: int = 10_000) -> list[int]:
    """Keep the pacer's places taken for so many requests; return the limit after each landing."""
    random, now, limits = Random(0), 0.0, list[int]()
    flying: list[tuple[float, int, float, bool]] = []
    sent = 0
    while sent < requests or flying:
        while sent < requests and pacer.flying < min(pacer.limit, demand):
            pacer.start(now)
            latency, refused = serve(pacer.flying, random)
            heapq.heappush(flying, (now + latency, sent, latency, refused))
            sent += 1
        now, _, latency, refused = heapq.heappop(flying)
        pacer.land(now, latency=latency, refused=refused)
        limits.append(pacer.limit)
    assert pacer.flying == 0
    return limits


def wide(flying: int, random: Random) -> tuple[float, bool]:
    """A server that minds no number of requests."""
    return 0.05, False


def narrow(capacity: int) -> Serve:
    """A server that computes `capacity` requests at a time and lets the others wait."""

    def serve(flying: int, random: Random) -> tuple[float, bool]:
        return 0.05 * max(1.0, flying / capacity), False

    return serve


def strict(most: int) -> Serve:
    """A server that refuses what goes beyond `most`."""

    def serve(flying: int, random: Random) -> tuple[float, bool]:
        return (0.05, False) if flying <= most else (0.001, True)

    return serve


def test_the_limit_doubles_each_round_trip_until_its_bound() -> None:
    """8 landings, then 16, then 32: after 56 the limit of 64 is reached."""
    limits = drive(Pacer(64), wide, requests=400)
    assert limits[0] == FIRST_LIMIT
    assert limits.index(16) == 7
    assert limits.index(32) == 7 + 16
    assert limits.index(64) == 7 + 16 + 32
    assert limits[-1] == 64


def test_a_server_that_only_queues_is_not_given_ever_more() -> None:
    """At 16 at a time the latency alone grows: the limit stays within a doubling of what is of use."""
    limits = drive(Pacer(512), narrow(16), requests=6000)
    assert all(12 <= limit <= 40 for limit in limits[1000:])


def test_refusals_bring_the_limit_down_to_what_the_server_takes() -> None:
    limits = drive(Pacer(256), strict(20), requests=8000)
    assert all(10 <= limit <= 30 for limit in limits[4000:])


def test_a_server_that_refuses_everything_gets_one_request_at_a_time() -> None:
    limits = drive(Pacer(64), lambda *_: (0.01, True), requests=60)
    assert limits[-1] == 1


def test_a_server_that_is_well_again_gets_more_again() -> None:
    pacer = Pacer(64)
    drive(pacer, lambda *_: (0.01, True), requests=60)
    assert drive(pacer, wide, requests=3000)[-1] >= 48


def test_one_refusal_in_twenty_hardly_moves_the_limit() -> None:
    limits = drive(Pacer(64), lambda _, random: (0.05, random.random() < 0.05), requests=8000)
    assert sum(limits[1000:]) / len(limits[1000:]) > 20


def test_without_demand_nothing_is_learnt() -> None:
    assert drive(Pacer(64), wide, requests=500, demand=3)[-1] == FIRST_LIMIT


def test_a_low_bound_is_kept_from_the_start() -> None:
    assert set(drive(Pacer(3), wide, requests=200)) == {3}


@pytest.mark.parametrize("most", [1, 7, 64])
@given(outcomes=st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=300))
def test_the_limit_stays_within_its_bounds_whatever_comes(most: int, outcomes: list[tuple[float, bool]]) -> None:
    pacer, now = Pacer(most), 0.0
    for latency, refused in outcomes:
        pacer.start(now)
        now += latency
        pacer.land(now, latency=latency, refused=refused)
        assert 1 <= pacer.limit <= most
    assert pacer.flying == 0
