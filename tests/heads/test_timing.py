"""Turns, ratios within a round, and the interval of their median."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from strop.errors import UserError
from strop.heads.timing import Timing, of_ratios, ratio, take_turns, typical


def test_every_way_runs_once_a_round_in_changing_order() -> None:
    called: list[str] = []
    ways = {name: lambda name=name: called.append(name) for name in "abc"}
    found = take_turns(ways, rounds=6, finish=lambda: called.append("."))
    assert {name: len(timings) for name, timings in found.items()} == {"a": 6, "b": 6, "c": 6}
    rounds = [called[start : start + 6 : 2] for start in range(0, 36, 6)]
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert len({tuple(names) for names in rounds}) > 1


def test_ratios_are_taken_within_a_round() -> None:
    """Rounds (2, 1), (6, 2), (8, 8) seconds: ratios 2, 3 and 1, median 2; on the clock all 1."""
    slow = [Timing(2.0, 1.0), Timing(6.0, 1.0), Timing(8.0, 1.0)]
    fast = [Timing(1.0, 1.0), Timing(2.0, 1.0), Timing(8.0, 1.0)]
    found = ratio(slow, fast)
    assert (found.median, found.low, found.high, found.rounds) == (2.0, 1.0, 3.0, 3)
    assert not found.is_gain
    assert ratio(slow, fast, clock="wall").median == 1.0
    assert typical(slow) == 6.0
    assert str(found) == "2.00 [1.00, 3.00]"


def test_interval_of_the_median() -> None:
    """Six rounds: the range, outside with 2 / 64 = 3.1 %. Nine: one cut from each end, 2 (1 + 9) / 512 = 3.9 %."""
    six = of_ratios([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    nine = of_ratios([float(value) for value in range(1, 10)])
    assert (six.low, six.high) == (1.0, 6.0)
    assert (nine.low, nine.median, nine.high) == (2.0, 5.0, 8.0)
    assert nine.is_gain


@given(st.integers(6, 60))
def test_the_interval_is_the_narrowest_that_keeps_its_confidence(count: int) -> None:
    found = of_ratios([float(value) for value in range(count)])
    cut = int(found.low)
    assert found.high == count - 1 - cut
    assert 2 * binom.cdf(cut, count, 0.5) <= 0.05 + 1e-12
    assert 2 * binom.cdf(cut + 1, count, 0.5) > 0.05


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(UserError, match="at least one round"):
        of_ratios([])
    with pytest.raises(UserError, match="at least one round"):
        take_turns({}, rounds=0)
