"""Waits and bounds of repeats, and what servers write into Retry-After."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.models.endpoints.retrying import FIRST_WAIT_S, LONGEST_WAIT_S, REPEATS, Retrying, backoff, retry_after
from strop.models.protocol import CallFailure

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


def failures(*kinds: str, transient: bool = True) -> list[CallFailure]:
    return [CallFailure(kind, "", transient) for kind in kinds]


def wait(*kinds: str, retries: int = 2, elapsed: float = 0.0, asked: float | None = None) -> float | None:
    return Retrying(retries, 100.0).wait(failures(*kinds), elapsed=elapsed, asked=asked, random=Random(0))


@pytest.mark.parametrize("kind", sorted(REPEATS))
def test_every_kind_has_its_own_bound(kind: str) -> None:
    most = 2 * REPEATS[kind]
    assert wait(*[kind] * most) is not None
    assert wait(*[kind] * (most + 1)) is None


def test_other_kinds_do_not_use_up_a_bound() -> None:
    assert wait("timeout", "timeout", "server", "server", "malformed") is not None


def test_what_does_not_pass_is_not_repeated() -> None:
    assert Retrying(9, 100).wait(failures("request", transient=False), elapsed=0, asked=1, random=Random(0)) is None


def test_time_bounds_repeats_and_waits() -> None:
    """After 98 of 100 seconds two are left, whatever the server asks for; after 100 none."""
    assert wait("rate_limit", elapsed=98, asked=60.0) == pytest.approx(2.0)
    assert wait("rate_limit", elapsed=100, asked=0.0) is None


def test_what_the_server_asks_is_waited_and_at_most_a_tenth_more() -> None:
    asked = wait("rate_limit", asked=10.0)
    assert asked is not None
    assert 10 <= asked <= 11
    assert wait("rate_limit", asked=0.0) == 0


def test_own_waits_double_and_are_spread() -> None:
    """0.5, 1, 2, ... 60 s at most, each drawn from its upper half."""
    assert [backoff(times, first=0.5, longest=60) for times in (1, 2, 3, 8, 99)] == [0.5, 1, 2, 60, 60]
    for times, longest in ((1, FIRST_WAIT_S), (2, 2 * FIRST_WAIT_S), (3, 4 * FIRST_WAIT_S)):
        drawn = wait(*["server"] * times, retries=9)
        assert drawn is not None
        assert longest / 2 <= drawn <= longest <= LONGEST_WAIT_S
    assert (
        len({Retrying(9, 100).wait(failures("server"), elapsed=0, asked=None, random=Random(i)) for i in range(9)}) == 9
    )


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}, 30.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:00 GMT"}, 0.0),
        ({"retry-after": "Tue, 99 Nov 2023 22:13:00 GMT"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=NOW) == seconds


@given(st.text(), st.text())
def test_no_header_breaks_the_reading(milliseconds: str, seconds: str) -> None:
    found = retry_after({"retry-after-ms": milliseconds, "retry-after": seconds}, now=NOW)
    assert found is None or 0 <= found < float("inf")
