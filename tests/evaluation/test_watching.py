"""A measure beside its limit, and the two ratios, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from strop.evaluation.statistics import Interval
from strop.evaluation.watching import beside_limit, distinct_ratio, ratio_of_sums


@pytest.mark.parametrize(
    ("value", "low", "limit", "below", "broken"),
    [
        (0.3, 0.1, 0.2, False, True),
        (0.3, -0.1, 0.2, False, False),
        (0.2, 0.1, 0.2, False, False),
        (0.3, 0.1, None, False, False),
        (0.3, 0.1, 0.4, True, True),
    ],
)
def test_broken_is_beyond_and_moved(value: float, low: float, limit: float | None, below: bool, broken: bool) -> None:
    found = beside_limit("m", Interval(value, low, 0.5, 9), limit, unmoved=0.0, told="at {value:.1f}", below=below)
    assert found.broken == broken
    assert found.told == (f"at {value:.1f}" if limit is None else f"at {value:.1f} (limit {limit:g})")


def test_no_bound_is_null() -> None:
    found = beside_limit("m", Interval(1.0, float("-inf"), float("inf"), 1), 0.5, unmoved=0.0, told="{value}")
    assert (found.to_row()["low"], found.to_row()["high"], found.broken) == (None, None, False)


def test_variety_by_hand() -> None:
    """Four runs, all different, become four of which two are: half the variety."""
    start = [("a", ["ab", "bc"]), ("b", ["cd", "de"])]
    now = [("a", ["ab", "ab"]), ("b", ["cd", "cd"])]
    found = distinct_ratio(now, start)
    assert (found.estimate, found.low, found.high) == (0.5, 0.5, 0.5)


def test_ratio_of_sums_by_hand() -> None:
    generator = np.random.default_rng(0)
    found = ratio_of_sums(["a", "b"], [2.0, 4.0], [1.0, 2.0], generator, nothing=0.0)
    assert (found.estimate, found.low, found.high) == pytest.approx((2.0, 2.0, 2.0), abs=1e-6)
    assert ratio_of_sums(["a", "b"], [0.0, 0.0], [0.0, 0.0], generator, nothing=1.0).estimate == 1.0
