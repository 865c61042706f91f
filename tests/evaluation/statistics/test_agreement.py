"""Kappa, alpha and Spearman: textbook numbers, parity with independent implementations, coverage, properties.

Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", four observers and twelve units with gaps: nominal
0.743, ordinal 0.815, interval 0.849.

Weighted kappa by hand, ratings (1, 1), (1, 2), (5, 5), (5, 4): squared differences 0, 1, 0, 1, mean 0.5; expected over
the product of the margins (1, 1, 5, 5) and (1, 2, 5, 4): (0 + 1 + 16 + 9) / 8 + (16 + 9 + 0 + 1) / 8 = 6.5;
kappa = 1 - 0.5 / 6.5 = 0.923077. The unused level 3 counts: dropping it would give another number.
"""

from __future__ import annotations

import math

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score

from strop.errors import UserError
from strop.evaluation.statistics import (
    SPEARMAN,
    Interval,
    Measure,
    NotEstimable,
    agreement_intervals,
    alpha_measure,
    cohen_kappa,
    kappa_measure,
    krippendorff_alpha,
    spearman,
)
from strop.evaluation.statistics.agreement import Metric, Weights

NONE = math.nan
TEXTBOOK = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NONE, NONE, NONE],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NONE, 3],
    [NONE, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NONE],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NONE],
]
METRICS: list[Metric] = ["nominal", "ordinal", "interval"]
MEASURES: dict[str, Measure] = {
    "spearman": SPEARMAN,
    "kappa none": kappa_measure("none"),
    "kappa linear": kappa_measure("linear"),
    "kappa quadratic": kappa_measure("quadratic"),
    **{f"alpha {metric}": alpha_measure(metric) for metric in METRICS},
}


def _generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("metric", "expected"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_the_textbook(metric: Metric, expected: float) -> None:
    assert krippendorff_alpha(TEXTBOOK, metric=metric) == pytest.approx(expected, abs=5e-4)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(2, 20), st.sampled_from(METRICS))
def test_alpha_equals_an_independent_implementation(seed: int, raters: int, items: int, metric: Metric) -> None:
    """Random ratings 1 to 5 with a third of them missing, against the `krippendorff` package."""
    generator = _generator(seed)
    ratings = generator.integers(1, 6, (raters, items)).astype(float)
    ratings[generator.random(ratings.shape) < 1 / 3] = math.nan
    alpha = krippendorff_alpha(ratings, metric=metric)
    paired = ratings[:, np.isfinite(ratings).sum(axis=0) > 1]
    if isinstance(alpha, NotEstimable):
        assert len(np.unique(paired[np.isfinite(paired)])) < 2
    else:
        assert alpha == pytest.approx(krippendorff.alpha(ratings, level_of_measurement=metric), abs=1e-9)
        assert -1 <= alpha <= 1


def test_weighted_kappa_by_hand() -> None:
    first, second = [1, 1, 5, 5], [1, 2, 5, 4]
    assert cohen_kappa(first, second, weights="quadratic") == pytest.approx(1 - 0.5 / 6.5)
    assert cohen_kappa_score(first, second, weights="quadratic") != pytest.approx(1 - 0.5 / 6.5)


def test_kappa_of_labels() -> None:
    """Verdicts: 3 of 4 agree; expected 6 / 16 from margins (2, 1, 1) and (2, 2, 0): (0.75 - 0.375) / 0.625 = 0.6."""
    first = ["first", "first", "second", "tie"]
    assert cohen_kappa(first, ["first", "first", "second", "second"], weights="none") == pytest.approx(0.6)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=30),
    st.sampled_from(sorted(MEASURES)),
)
def test_tables_and_libraries_agree(pairs: list[tuple[int, int]], name: str) -> None:
    """What the resamples use equals what the estimate uses, for every measure; and swapping raters changes nothing."""
    first, second = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    table = np.zeros((1, 5, 5))
    np.add.at(table[0], (first.astype(int) - 1, second.astype(int) - 1), 1)
    measure = MEASURES[name]
    fast, exact, swapped = (
        measure.of_tables(table, np.arange(1.0, 6.0))[0],
        measure.of_ratings(first, second),
        measure.of_ratings(second, first),
    )
    if isinstance(exact, NotEstimable):
        assert math.isnan(fast)
        assert isinstance(swapped, NotEstimable)
    else:
        assert fast == pytest.approx(exact, abs=1e-9)
        assert swapped == pytest.approx(exact, abs=1e-9)
        assert -1 - 1e-9 <= exact <= 1 + 1e-9


@pytest.mark.parametrize(
    "found",
    [
        cohen_kappa([3, 3], [3, 3], weights="quadratic"),
        cohen_kappa([], [], weights="none"),
        cohen_kappa([1, 2.5], [2, 3], weights="linear"),
        spearman([1, 1, 1], [1, 2, 3]),
        spearman([1, NONE], [NONE, 2]),
        krippendorff_alpha([[1, NONE], [NONE, 2]], metric="ordinal"),
        krippendorff_alpha([[2, 2], [2, 2]], metric="nominal"),
    ],
)
def test_no_measure_is_ever_nan(found: float | NotEstimable) -> None:
    assert isinstance(found, NotEstimable)
    assert found.reason


def test_missing_ratings_are_left_out_in_pairs() -> None:
    first, second = [1, 2, 3, NONE, 5], [1, 3, 2, 4, NONE]
    assert spearman(first, second) == pytest.approx(spearmanr([1, 2, 3], [1, 3, 2]).statistic)
    found = agreement_intervals(first, second, list("aabbc"), _generator(), measures=MEASURES, resamples=50)
    assert {outcome.n for outcome in found.values()} == {3}
    with pytest.raises(UserError, match="same items"):
        spearman([1, 2], [1, 2, 3])


def test_nobody_rated_anything_twice() -> None:
    found = agreement_intervals([1, NONE], [NONE, 1], ["a", "b"], _generator(), measures=MEASURES)
    assert all(isinstance(outcome, NotEstimable) and outcome.n == 0 for outcome in found.values())


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(0, 4)), min_size=2, max_size=30))
def test_intervals_ignore_the_order_of_rows(rows: list[tuple[int, int, int]]) -> None:
    results = []
    for order in (rows, rows[::-1]):
        first, second, groups = ([row[place] for row in order] for place in range(3))
        results.append(agreement_intervals(first, second, groups, _generator(), measures=MEASURES, resamples=40))
    assert results[0] == results[1]
    for outcome in results[0].values():
        assert isinstance(outcome, NotEstimable) or -1 <= outcome.low <= outcome.high <= 1


def test_ratings_of_many_values_are_resampled_row_by_row() -> None:
    """Expected ratings are no whole numbers: Spearman and interval alpha have intervals, kappa a reason."""
    generator = _generator()
    truth = generator.normal(size=120)
    noisy = truth + generator.normal(size=120)
    measures = {"spearman": SPEARMAN, "kappa": kappa_measure("quadratic")}
    found = agreement_intervals(truth, noisy, list(range(120)), generator, measures=measures, resamples=100)
    assert isinstance(found["spearman"], Interval)
    assert found["spearman"].estimate == pytest.approx(spearmanr(truth, noisy).statistic)
    assert found["spearman"].low < found["spearman"].estimate < found["spearman"].high
    assert isinstance(found["kappa"], NotEstimable)


def _graded(values: NDArray[np.float64]) -> NDArray[np.intp]:
    return np.digitize(values, [-1.2, -0.4, 0.4, 1.2]) + 1


def _two_raters(
    generator: np.random.Generator, groups: int
) -> tuple[tuple[NDArray[np.intp], NDArray[np.intp]], list[int]]:
    members = np.repeat(np.arange(groups), generator.integers(1, 7, groups))
    quality = 0.6 * generator.normal(size=groups)[members] + 0.8 * generator.normal(size=len(members))
    noise = generator.normal(0, 0.5, (2, len(members)))
    return (_graded(quality + noise[0]), _graded(quality + 0.3 + noise[1])), members.tolist()


def test_agreement_intervals_cover_at_their_nominal_rate() -> None:
    """R = 150 samples of 15 groups; the truth is the value of a million items. Central 99.9 %: 132 to 150."""
    weights: Weights = "quadratic"
    measures = {"spearman": SPEARMAN, "kappa": kappa_measure(weights), "alpha": alpha_measure("ordinal")}
    (first, second), _ = _two_raters(_generator(1), 300_000)
    truth = {name: measure.of_ratings(first, second) for name, measure in measures.items()}
    generator, covered = _generator(2), dict.fromkeys(measures, 0)
    for _ in range(150):
        (first, second), groups = _two_raters(generator, 15)
        found = agreement_intervals(first, second, groups, generator, measures=measures, resamples=200)
        for name, outcome in found.items():
            expected = truth[name]
            assert isinstance(outcome, Interval)
            assert isinstance(expected, float)
            covered[name] += not outcome.excludes(expected)
    assert all(132 <= count <= 150 for count in covered.values()), covered
