"""Statistics, by hand-worked numbers, against scipy, by simulation and by their properties.

Wilson, 8 of 10 at 95 %: z = 1.959964, z² = 3.841459; centre (0.8 + 0.1920729) / 1.3841459 = 0.716740; half width
1.959964 / 1.3841459 * sqrt(0.016 + 0.0096036) = 0.226577; so 0.490162 to 0.943318.

pass@k with n = 4: c = 1 gives pass@2 = 1 - C(3,2)/C(4,2) = 1 - 3/6 = 0.5; c = 4 gives 1; c = 0 gives 0; the mean of the
three is 0.5.

McNemar: 8 items only the first has right, 2 only the second: two-sided binomial p = 2 (1 + 10 + 45) / 1024 = 0.109375.

Gap recovered: floor 0.4, model 0.7, ceiling 0.9 give 0.3 / 0.5 = 0.6.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from strop.errors import UserError
from strop.evaluation.statistics import (
    FEWEST_ITEMS,
    GapRecovered,
    Interval,
    any_of_k,
    bootstrap_means,
    compare_paired,
    difference_interval,
    gap_recovered,
    mean_interval,
    pass_at_k,
    wilson,
)


def _generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _first(n: int, right: int) -> np.ndarray:
    return (np.arange(n) < right).astype(float)


def test_wilson_by_hand() -> None:
    interval = wilson(8, 10)
    assert (interval.estimate, interval.n) == (0.8, 10)
    assert interval.low == pytest.approx(0.490162, abs=1e-6)
    assert interval.high == pytest.approx(0.943318, abs=1e-6)


@given(st.integers(1, 5000), st.data(), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_wilson_equals_scipy(n: int, data: st.DataObject, level: float) -> None:
    right = data.draw(st.integers(0, n))
    expected = binomtest(right, n).proportion_ci(level, method="wilson")
    interval = wilson(right, n, level=level)
    assert interval.low == pytest.approx(expected.low, abs=1e-12)
    assert interval.high == pytest.approx(expected.high, abs=1e-12)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


@pytest.mark.parametrize(("right", "n"), [(0, 0), (3, 2), (-1, 4)])
def test_wilson_refuses_impossible_counts(right: int, n: int) -> None:
    with pytest.raises(UserError, match="share needs trials"):
        wilson(right, n)


def test_mcnemar_by_hand() -> None:
    first, second = np.zeros(100), np.zeros(100)
    first[:8], second[8:10] = 1, 1
    comparison = compare_paired(first, second)
    assert (comparison.only_first, comparison.only_second, comparison.n) == (8, 2, 100)
    assert comparison.p_value == pytest.approx(0.109375)
    assert comparison.difference.estimate == pytest.approx(0.06)
    assert not comparison.distinguishable
    # Connor: (1.959964 * sqrt(0.1) + 0.841621 * sqrt(0.1 - 0.0036))² / 0.0036 = 215.53
    assert comparison.items_needed == 216


def test_equal_columns_have_no_difference() -> None:
    comparison = compare_paired([1, 0, 1], [1, 0, 1])
    assert (comparison.p_value, comparison.items_needed) == (1.0, None)
    assert comparison.difference.low < 0 < comparison.difference.high


def test_ungraded_items_are_left_out_of_both_columns() -> None:
    comparison = compare_paired([1, math.nan, 1, 0], [0, 1, 1, math.nan])
    assert (comparison.n, comparison.left_out, comparison.only_first, comparison.only_second) == (2, 2, 1, 0)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_paired_comparison_is_antisymmetric(pairs: list[tuple[bool, bool]]) -> None:
    first, second = zip(*pairs, strict=True)
    forward, backward = compare_paired(first, second), compare_paired(second, first)
    assert forward.difference.estimate == -backward.difference.estimate
    assert forward.difference.low == pytest.approx(-backward.difference.high)
    assert forward.p_value == pytest.approx(backward.p_value)


def test_pass_at_k_by_hand() -> None:
    assert pass_at_k([1, 4, 0], samples=4, k=2) == pytest.approx(0.5)
    assert any_of_k([[False, True, True, True], [False] * 4, [True] * 4], k=1) == pytest.approx(1 / 3)


@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=8))
def test_the_two_pass_at_k_agree_when_all_samples_are_used(outcomes: list[list[bool]]) -> None:
    counts = [sum(row) for row in outcomes]
    assert pass_at_k(counts, samples=6, k=6) == pytest.approx(any_of_k(outcomes, k=6))
    assert pass_at_k(counts, samples=6, k=1) == pytest.approx(sum(counts) / (6 * len(counts)))
    values = [pass_at_k(counts, samples=6, k=k) for k in range(1, 7)]
    assert values == sorted(values)


def test_pass_at_k_is_unbiased() -> None:
    """The mean of any-of-2 over all pairs of 5 samples is what the estimator gives at once."""
    row = [True, False, False, True, False]
    pairs = [(row[i], row[j]) for i in range(5) for j in range(i)]
    assert pass_at_k([2], samples=5, k=2) == pytest.approx(sum(map(any, pairs)) / len(pairs))


@pytest.mark.parametrize(("correct", "samples", "k"), [([], 4, 1), ([1], 4, 5), ([1], 4, 0), ([5], 4, 1)])
def test_pass_at_k_refuses_impossible_counts(correct: list[int], samples: int, k: int) -> None:
    with pytest.raises(UserError):
        pass_at_k(correct, samples=samples, k=k)


def test_gap_recovered_by_hand() -> None:
    result = gap_recovered(_first(1000, 400), _first(1000, 700), _first(1000, 900), _generator())
    assert result.recovered is not None
    assert result.recovered.estimate == pytest.approx(0.6)
    assert result.recovered.low < 0.6 < result.recovered.high
    assert result.gap.estimate == pytest.approx(0.5)
    assert result.gain.estimate == pytest.approx(0.3)
    assert (result.verdict, result.seeds, result.items, result.needed) == ("recovers", 1, 1000, None)


def test_no_recovery_is_a_verdict() -> None:
    """A model equal to the floor recovers nothing, and 2,000 items are enough to say so."""
    floor = _first(2000, 800)
    result = gap_recovered(floor, floor, _first(2000, 1800), _generator())
    assert result.verdict == "does not recover"


def test_a_model_below_the_floor_does_not_recover() -> None:
    assert (
        gap_recovered(_first(500, 200), _first(500, 100), _first(500, 400), _generator()).verdict == "does not recover"
    )


def test_a_vanishing_gap_cannot_tell_and_does_not_explode() -> None:
    rng = _generator(3)
    floor, model, ceiling = (rng.random((5, 400)) < share for share in (0.5, 0.9, 0.505))
    result = gap_recovered(floor, model, ceiling, rng)
    assert result.verdict == "cannot tell at this n"
    assert result.recovered is None
    assert result.gap.low < 0 < result.gap.high


def test_few_items_pass_no_verdict() -> None:
    result = gap_recovered(np.zeros(5), np.ones(5), np.ones(5), _generator())
    assert result.verdict == "cannot tell at this n"
    assert result.needed is not None
    assert result.needed.items == FEWEST_ITEMS


def test_what_would_be_needed_is_enough() -> None:
    """Effect 0.05 on 200 items is not found; on the number of items that the verdict asks for, it mostly is."""
    rng = _generator(5)

    def arms(items: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return rng.random(items) < 0.5, rng.random(items) < 0.55, rng.random(items) < 0.9

    results = [gap_recovered(*arms(200), rng, resamples=400) for _ in range(20)]
    asked = [result.needed.items for result in results if result.needed is not None and result.needed.items is not None]
    assert len(asked) > 5
    assert all(items > 200 for items in asked)
    # Twice 1.96² * 2 * 0.25 / 0.05² = 768 items leave power to spare.
    found = [gap_recovered(*arms(3000), rng, resamples=400).verdict == "recovers" for _ in range(10)]
    assert sum(found) >= 9


def test_missing_outcomes_are_never_zero() -> None:
    floor, model, ceiling = _first(100, 40), _first(100, 70), _first(100, 90)
    holes = model.copy()
    holes[::10] = math.nan
    result = gap_recovered(floor, holes, ceiling, _generator())
    assert result.left_out == 10
    kept = ~np.isnan(holes)
    assert result.gain.estimate == pytest.approx(model[kept].mean() - floor[kept].mean())


def test_arms_of_different_shape_are_refused() -> None:
    with pytest.raises(UserError, match="same seeds and items"):
        gap_recovered(np.zeros((2, 5)), np.zeros((2, 5)), np.zeros((2, 6)), _generator())
    with pytest.raises(UserError, match="no item is graded"):
        mean_interval([math.nan, math.nan], _generator())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(20, 60), st.booleans())
def test_gap_recovered_properties(seed: int, seeds: int, items: int, same_items: bool) -> None:
    """The ceiling recovers 1 and the floor 0; the same generator gives the same result; intervals are ordered."""
    rng = _generator(seed)
    floor, ceiling = rng.random((seeds, items)) < 0.3, rng.random((seeds, items)) < 0.9

    def recovered(model: np.ndarray) -> GapRecovered:
        return gap_recovered(floor, model, ceiling, _generator(seed), resamples=100, same_items=same_items)

    top = recovered(ceiling)
    assert top == recovered(ceiling)
    if top.recovered is not None:
        assert top.recovered == Interval(1.0, 1.0, 1.0, seeds * items)
    bottom = recovered(floor)
    assert bottom.recovered is None or bottom.recovered.estimate == 0.0
    assert bottom.verdict != "recovers"
    assert top.gap.low <= top.gap.high


def test_equal_arms_share_every_draw() -> None:
    arm = _generator(1).random((3, 50)) < 0.4
    for same_items in (True, False):
        means = bootstrap_means([arm, arm], _generator(), resamples=300, same_items=same_items)
        assert means.shape == (300, 2)
        assert np.array_equal(means[:, 0], means[:, 1])


@pytest.mark.parametrize("same_items", [True, False])
def test_intervals_cover_at_about_their_nominal_rate(same_items: bool) -> None:
    """Seeds with means of their own (sd 0.05) and shared items of their own difficulty: 95 % intervals cover 0.5.

    With five seeds a percentile bootstrap over seeds is known to be short; 300 repetitions tell 0.85 from less.
    """
    rng, covered, repetitions = _generator(11), 0, 300
    for _ in range(repetitions):
        by_seed = rng.normal(0, 0.05, (6, 1))
        by_item = rng.normal(0, 0.2, (1, 60)) if same_items else rng.normal(0, 0.2, (6, 60))
        outcomes = rng.random((6, 60)) < np.clip(0.5 + by_seed + by_item, 0, 1)
        interval = mean_interval(outcomes, rng, resamples=300, same_items=same_items)
        covered += interval.low <= 0.5 <= interval.high
    assert 0.88 <= covered / repetitions <= 1.0


def test_paired_differences_are_tighter_than_unpaired_ones() -> None:
    rng = _generator(2)
    first = rng.random((4, 200)) < 0.5
    second = first | (rng.random((4, 200)) < 0.1)
    paired = difference_interval(second, first, rng)
    unpaired = difference_interval(second, rng.permuted(first, axis=1), rng)
    assert paired.half_width < unpaired.half_width
    assert paired.excludes(0.0)
