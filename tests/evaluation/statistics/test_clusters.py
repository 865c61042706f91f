"""Intervals over groups: hand-worked ends, coverage by simulation, and what must not matter.

Simulations count how many of R 95 % intervals cover the truth. A correct interval gives a count within the central
99.9 % of Binomial(R, 0.95): for R = 400 that is 365 to 393, for R = 3,000 it is 2,809 to 2,888.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, norm

from strop.errors import UserError
from strop.evaluation.statistics import SHARE, Interval, cluster_bootstrap, paired_cluster_difference

Sample = tuple[NDArray[np.float64], list[int]]


def _generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _covered(intervals: list[Interval], truth: float) -> tuple[int, int, int]:
    """Return how many intervals cover, and the acceptance region."""
    low, high = binom.ppf([0.0005, 0.9995], len(intervals), 0.95)
    return sum(not each.excludes(truth) for each in intervals), int(low), int(high)


def _members(generator: np.random.Generator, groups: int, largest: int = 9) -> NDArray[np.intp]:
    return np.repeat(np.arange(groups), generator.integers(1, largest, groups))


def _normal(generator: np.random.Generator, groups: int) -> Sample:
    members = _members(generator, groups)
    return generator.normal(0, 0.5, groups)[members] + generator.normal(0, 1, len(members)), members.tolist()


def _shares(generator: np.random.Generator, groups: int) -> Sample:
    members = _members(generator, groups)
    chances = generator.beta(4, 2, groups)[members]
    return (generator.random(len(members)) < chances).astype(float), members.tolist()


@pytest.mark.parametrize(("draw", "truth", "bounds"), [(_normal, 0.0, (-math.inf, math.inf)), (_shares, 2 / 3, SHARE)])
@pytest.mark.parametrize("groups", [15, 40])
def test_means_cover_at_their_nominal_rate(
    draw: Callable[[np.random.Generator, int], Sample], truth: float, bounds: tuple[float, float], groups: int
) -> None:
    """R = 400 samples of 15 or 40 groups of 1 to 8 dependent rows; central 99.9 %: 365 to 393."""
    generator = _generator(groups)
    intervals = [
        cluster_bootstrap(*draw(generator, groups), generator, bounds=bounds, resamples=300) for _ in range(400)
    ]
    covered, low, high = _covered(intervals, truth)
    assert low <= covered <= high


def test_ignoring_groups_does_not_cover() -> None:
    """Each row three times, as if they were independent: an interval that ignores groups fails the test above."""
    generator = _generator(1)
    samples = [np.repeat(_normal(generator, 30)[0], 3) for _ in range(200)]
    intervals = [cluster_bootstrap(each, list(range(len(each))), generator, resamples=200) for each in samples]
    covered, low, _ = _covered(intervals, 0.0)
    assert covered < low


def test_paired_differences_cover_at_their_nominal_rate() -> None:
    """R = 400 samples of 15 groups; two judges that are right with chance 0.75 and 0.65 on the same rows."""
    generator, intervals = _generator(2), []
    for _ in range(400):
        members = _members(generator, 15)
        common = generator.normal(0, 0.5, 15)[members] + generator.normal(0, 1, len(members))
        first, second = (common < norm.ppf(share) * math.sqrt(1.25) for share in (0.75, 0.65))
        flipped = generator.random(len(members)) < 0.2
        second = np.where(flipped, generator.random(len(members)) < 0.65, second)
        intervals.append(paired_cluster_difference(first, second, members.tolist(), generator, resamples=300))
    covered, low, _ = _covered(intervals, 0.1)
    assert covered >= low


@pytest.mark.slow
@pytest.mark.parametrize("draw", [_normal, _shares])
@pytest.mark.parametrize("groups", [5, 8, 15, 50, 150])
def test_coverage_in_a_larger_simulation(draw: Callable[[np.random.Generator, int], Sample], groups: int) -> None:
    """R = 3,000; with 5 and 8 groups of normal rows 0.93 is what the interval gives, and 0.915 what is asked."""
    generator = _generator(100 + groups)
    truth, bounds = (0.0, (-math.inf, math.inf)) if draw is _normal else (2 / 3, SHARE)
    intervals = [
        cluster_bootstrap(*draw(generator, groups), generator, bounds=bounds, resamples=1000) for _ in range(3000)
    ]
    covered, low, _ = _covered(intervals, truth)
    assert covered >= (low if groups > 8 else 0.915 * 3000)


def test_any_statistic_covers_at_about_its_nominal_rate() -> None:
    """R = 100 samples of 20 groups, interval of the median of normal rows; central 99.9 %: 86 to 100."""
    generator = _generator(4)

    def median(rows: NDArray[np.float64]) -> float:
        return float(np.median(rows))

    intervals = [
        cluster_bootstrap(*_normal(generator, 20), generator, statistic=median, resamples=120) for _ in range(100)
    ]
    covered, low, _ = _covered(intervals, 0.0)
    assert covered >= low


def test_groups_that_agree_still_leave_room() -> None:
    """20 groups, all right: the low end is Clopper and Pearson's 0.025^(1/20) = 0.8316.

    Two columns that never differ on 50 groups: a difference in unseen groups has a chance below 1 - 0.025^(1/50) =
    0.0711, so the difference lies within that.
    """
    share = cluster_bootstrap([1.0] * 40, [row // 2 for row in range(40)], _generator(), bounds=SHARE)
    assert (share.estimate, share.high, share.n, share.groups) == (1.0, 1.0, 40, 20)
    assert share.low == pytest.approx(0.8316, abs=1e-4)
    same = paired_cluster_difference([1] * 50, [1] * 50, list(range(50)), _generator())
    assert same.high == -same.low == pytest.approx(0.0711, abs=1e-4)


def test_one_group_says_nothing_about_others() -> None:
    alone = cluster_bootstrap([1.0, 2.0, 3.0], ["a"] * 3, _generator())
    assert (alone.estimate, alone.low, alone.high) == (2.0, -math.inf, math.inf)
    share = cluster_bootstrap([1.0, 0.0], ["a"] * 2, _generator(), bounds=SHARE)
    assert share.low < 0.02
    assert share.high > 0.98


def test_missing_rows_are_left_out_and_counted() -> None:
    values, groups = [1.0, math.nan, 0.0, 1.0], ["a", "a", "b", "c"]
    interval = cluster_bootstrap(values, groups, _generator(), bounds=SHARE)
    assert interval.estimate == pytest.approx(2 / 3)
    assert (interval.n, interval.groups) == (3, 3)
    difference = paired_cluster_difference([1, math.nan, 0, 1], [0, 0, math.nan, 1], groups, _generator())
    assert (difference.estimate, difference.n) == (0.5, 2)


@pytest.mark.parametrize(
    ("values", "groups", "match"),
    [
        ([1.0, 2.0], ["a"], "needs its group"),
        ([1.0, 2.0], ["a", None], "has no group"),
        ([1.0, 2.0], ["a", math.nan], "has no group"),
        ([math.nan], ["a"], "no row is complete"),
        ([], [], "no row is complete"),
        ([2.0, 2.0], ["a", "b"], "outside the stated bounds"),
    ],
)
def test_unusable_input_is_one_message(values: list[float], groups: list[object], match: str) -> None:
    with pytest.raises(UserError, match=match):
        cluster_bootstrap(values, groups, _generator(), bounds=SHARE)


ROWS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0, math.nan]), st.sampled_from([1, 2, 3, "a", "b", "1"])), min_size=1
).filter(lambda rows: any(not math.isnan(value) for value, _ in rows))


@settings(max_examples=40, deadline=None)
@given(ROWS.flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(rows))))
def test_the_order_of_rows_does_not_matter(orders: tuple[list[tuple[float, int | str]], ...]) -> None:
    """Group ids may be numbers and text at once; 1 and "1" are different groups."""
    results = [
        cluster_bootstrap(
            [value for value, _ in rows], [group for _, group in rows], _generator(3), bounds=SHARE, resamples=50
        )
        for rows in orders
    ]
    assert results[0] == results[1]
    assert 0 <= results[0].low <= results[0].estimate <= results[0].high <= 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 5)), min_size=1, max_size=40))
def test_swapping_the_columns_turns_the_sign(rows: list[tuple[bool, bool, int]]) -> None:
    first, second = ([float(row[place]) for row in rows] for place in (0, 1))
    groups = [group for _, _, group in rows]
    forward = paired_cluster_difference(first, second, groups, _generator(), resamples=4000)
    backward = paired_cluster_difference(second, first, groups, _generator(), resamples=4000)
    assert forward.estimate == -backward.estimate
    assert forward.low <= forward.estimate <= forward.high
    if len(set(groups)) == 1:
        assert forward.low == pytest.approx(-backward.high)


def test_a_hundred_thousand_rows_are_fast() -> None:
    generator = _generator()
    values = (generator.random(100_000) < 0.6).astype(float)
    started = time.process_time()
    interval = cluster_bootstrap(values, generator.integers(5_000, size=100_000).tolist(), generator, bounds=SHARE)
    assert time.process_time() - started < 3
    assert interval.half_width == pytest.approx(1.96 * math.sqrt(0.24 / 100_000), rel=0.15)
