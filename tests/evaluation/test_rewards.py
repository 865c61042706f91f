"""A reward model's figures: by hand, against scikit-learn, and unmoved by what must not move them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.errors import UserError
from strop.evaluation.rewards import (
    ScoredPair,
    auc,
    expected_calibration_error,
    figures_of,
    oriented,
    reward_quality,
    sigmoid,
)
from strop.evaluation.statistics import NotEstimable


def pair(number: int, margin: float, group: str | None = None, **slices: str) -> ScoredPair:
    return ScoredPair(f"p{number}", margin, 0.0, group or f"g{number}", slices)


def test_four_pairs_by_hand() -> None:
    """Margins ln 3, ln 3, 0, -ln 3: sigma is 3/4, 3/4, 1/2, 1/4.

    Two are right, one is a tie, one is wrong: accuracy 2.5 / 4 = 0.625. The squared errors are 1/16, 1/16, 1/4 and
    9/16, whatever the orientation: Brier 15/64.
    """
    margins = [math.log(3), math.log(3), 0.0, -math.log(3)]
    found = figures_of([pair(number, margin) for number, margin in enumerate(margins)], seed=0)
    assert found.accuracy.estimate == pytest.approx(0.625)
    assert found.brier.estimate == pytest.approx(15 / 64)
    assert (found.pairs, found.ties) == (4, 1)
    assert found.margin.estimate == pytest.approx(math.log(3) / 4)


def test_auc_by_hand() -> None:
    """Positives 0.9 and 0.4, negatives 0.4 and 0.1: of four comparisons three are won and one is a tie, 3.5 / 4."""
    assert auc(np.array([0.9, 0.4, 0.4, 0.1]), np.array([1.0, 1.0, 0.0, 0.0])) == pytest.approx(0.875)
    assert math.isnan(auc(np.array([0.3, 0.4]), np.array([1.0, 1.0])))


def test_ece_by_hand() -> None:
    """Bin 0.9 to 1: probabilities 0.9 and 1, labels 1 and 0, so |0.95 - 0.5| for 2 of 3; bin 0.2: |0.2 - 0| for 1.

    2/3 x 0.45 + 1/3 x 0.2 = 0.3667.
    """
    found = expected_calibration_error(np.array([0.9, 1.0, 0.2]), np.array([1.0, 0.0, 0.0]))
    assert found == pytest.approx(2 / 3 * 0.45 + 1 / 3 * 0.2)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_scikit_learn_agrees(seed: int) -> None:
    from sklearn.metrics import accuracy_score, brier_score_loss, roc_auc_score

    generator = np.random.default_rng(seed)
    margins = np.round(generator.normal(0.4, 1.0, size=300), 2)
    ids = list(range(300))
    probabilities, labels = oriented(margins, ids, seed=seed)
    found = figures_of(
        [ScoredPair(n, margin, 0.0, str(n % 60), {}) for n, margin in zip(ids, margins, strict=True)], seed=seed
    )
    assert not isinstance(found.auc, NotEstimable)
    assert found.auc.estimate == pytest.approx(roc_auc_score(labels, probabilities))
    assert found.brier.estimate == pytest.approx(brier_score_loss(labels, probabilities))
    untied = margins != 0
    share = accuracy_score(labels[untied], probabilities[untied] > 0.5)
    assert found.accuracy.estimate == pytest.approx((share * untied.sum() + 0.5 * (~untied).sum()) / 300)
    # Its bins are closed above and ours below: a tie, of probability 1/2, stands on an edge.
    ours = expected_calibration_error(probabilities[untied], labels[untied])
    assert ours == pytest.approx(_ece_by_calibration_curve(probabilities[untied], labels[untied]))


def _ece_by_calibration_curve(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """An independent way: scikit-learn's curve, its bins weighted by numpy's histogram."""
    from sklearn.calibration import calibration_curve

    frequency, mean = calibration_curve(labels, probabilities, n_bins=10, strategy="uniform")
    counts, _ = np.histogram(probabilities, bins=10, range=(0, 1))
    return float(np.sum(counts[counts > 0] * np.abs(frequency - mean)) / len(labels))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(-5, 5).map(lambda value: round(value, 3)), min_size=2, max_size=12),
    st.floats(-50, 50).map(lambda value: round(value, 2)),
)
def test_a_number_added_to_every_reward_changes_nothing(margins: list[float], shift: float) -> None:
    pairs = [pair(number, margin) for number, margin in enumerate(margins)]
    moved = [replace(each, chosen=each.chosen + shift, rejected=each.rejected + shift) for each in pairs]
    before, after = figures_of(pairs, seed=1), figures_of(moved, seed=1)
    for name in ("accuracy", "brier", "ece", "margin"):
        assert getattr(after, name).estimate == pytest.approx(getattr(before, name).estimate, abs=1e-6)
    assert after.ties == before.ties


def test_the_order_of_pairs_changes_nothing() -> None:
    pairs = [pair(number, margin, f"g{number % 3}") for number, margin in enumerate([0.5, -1.0, 2.0, 0.0, 0.3, -0.2])]
    assert figures_of(pairs, seed=4) == figures_of(pairs[::-1], seed=4)


def test_exchanged_sides_turn_the_accuracy() -> None:
    pairs = [pair(number, margin) for number, margin in enumerate([0.5, -1.0, 2.0, 0.0, 0.3])]
    turned = [replace(each, chosen=each.rejected, rejected=each.chosen) for each in pairs]
    assert figures_of(turned, seed=0).accuracy.estimate == pytest.approx(
        1 - figures_of(pairs, seed=0).accuracy.estimate
    )


def test_equal_scores_are_told() -> None:
    quality = reward_quality([pair(number, 1e-8) for number in range(30)], seed=0)
    assert quality.verdict == "equal scores"
    assert "learned nothing" in quality.finding()
    assert quality.overall.accuracy.estimate == 0.5
    assert quality.overall.ties == 30


@pytest.mark.parametrize(("margin", "verdict"), [(1.0, "ranks"), (-1.0, "ranks the wrong way")])
def test_verdicts(margin: float, verdict: str) -> None:
    assert reward_quality([pair(number, margin) for number in range(30)], seed=0).verdict == verdict
    mixed = reward_quality([pair(number, margin * (-1) ** number) for number in range(30)], seed=0)
    assert mixed.verdict == "cannot tell"


def test_slices_and_principles() -> None:
    pairs = [pair(0, 1.0, gap="1 to 6"), pair(1, -1.0, gap="1 to 6"), pair(2, 1.0, gap="7 to 13")]
    quality = reward_quality(pairs, principles={"safety": pairs[:1]}, seed=0)
    assert quality.slices["gap"]["1 to 6"].accuracy.estimate == 0.5
    assert quality.slices["gap"]["7 to 13"].pairs == 1
    assert quality.slices["principle"]["safety"].accuracy.estimate == 1.0


def test_intervals_know_groups() -> None:
    """Forty pairs of four clients say less than forty pairs of forty clients."""
    margins = [1.0, -1.0, 1.0, 1.0]
    few = figures_of([pair(number, margins[number % 4], f"c{number % 4}") for number in range(40)], seed=0)
    many = figures_of([pair(number, margins[number % 4]) for number in range(40)], seed=0)
    assert few.accuracy.half_width > 2 * many.accuracy.half_width
    assert few.accuracy.groups == 4


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_reward_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(UserError, match="not a number"):
        reward_quality([ScoredPair(0, bad, 0.0, "g", {})], seed=0)


def test_ids_occur_once_and_there_is_a_pair() -> None:
    with pytest.raises(UserError, match="more than once"):
        reward_quality([pair(0, 1.0), pair(0, 2.0)], seed=0)
    with pytest.raises(UserError, match="no pairs"):
        reward_quality([], seed=0)


def test_sigmoid_does_not_overflow() -> None:
    assert sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]
