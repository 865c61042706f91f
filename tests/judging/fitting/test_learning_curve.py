"""What labels buy: nested draws by group, a rising curve on a planted signal, a flat one on coin labels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tests.judging.planted import planted_pairs

from strop.evaluation.statistics import Interval
from strop.judging.fitting.curve_figure import draw_curve
from strop.judging.fitting.fitting import Labels, gather
from strop.judging.fitting.grid import Grid, Setting
from strop.judging.fitting.label_pool import preference_of
from strop.judging.fitting.learning_curve import (
    CurvePoint,
    LearningCurve,
    curve_sizes,
    learning_curve,
    shuffled_by_group,
)
from strop.models.embedding import open_embedder

SINGLE = Grid("test", (Setting("embedding", 1.0),))


@pytest.fixture(scope="module")
def labels(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labels]:
    """300 planted pairs in 60 groups."""
    embedder = open_embedder(str(tiny_encoder), cache=tmp_path_factory.mktemp("vectors"))
    yield gather([preference_of(pair) for pair in planted_pairs(300, groups=60)], [], ("embedding",), embedder)
    embedder.close()


def test_sizes_double_as_far_as_every_training_part_goes() -> None:
    """100 rows in five folds of 20 leave 80: 25 and 50; folds of 60 and 40 rows leave 40: 25."""
    assert curve_sizes(np.arange(100) % 5) == (25, 50)
    assert curve_sizes(np.repeat([0, 1], [60, 40])) == (25,)
    assert curve_sizes(np.arange(30) % 5) == ()
    assert curve_sizes(np.arange(25) % 5) == ()


def test_larger_sets_hold_the_smaller_and_groups_stay_together(labels: Labels) -> None:
    rows = np.arange(0, 300, 3)
    ordered = shuffled_by_group(labels, rows, np.random.default_rng(0))
    assert sorted(ordered) == rows.tolist()
    seen = [labels.groups[row] for row in ordered]
    changes = sum(one != other for one, other in pairwise(seen))
    assert changes == len(set(seen)) - 1
    assert ordered.tolist() != rows.tolist()


def test_a_planted_signal_makes_the_curve_rise(labels: Labels) -> None:
    places = labels.group_folds(np.arange(300), folds=5, seed=0)
    longer = np.full(300, 0.5)
    curve = learning_curve(labels, SINGLE, places, longer, seed=0, draws=2)
    assert [point.labels for point in curve.points] == [25, 50, 100, 200]
    accuracies = [point.accuracy.estimate for point in curve.points]
    assert accuracies[-1] > max(0.8, accuracies[0] + 0.02)
    assert all(point.lowest <= point.accuracy.estimate <= point.highest for point in curve.points)
    last = curve.points[-1]
    assert last.over_longer.estimate == pytest.approx(last.accuracy.estimate - 0.5)
    assert last.accuracy.n == 300
    assert last.accuracy.groups == 60
    assert curve.gain is not None
    assert curve.gain.estimate > 0
    again = learning_curve(labels, SINGLE, places, longer, seed=0, draws=2)
    assert again == curve


def test_the_gain_is_a_line_over_the_logarithm(labels: Labels) -> None:
    """By hand with numpy's own line fit: slope of the accuracies over log2(n), times log2(350 / 300)."""
    places = labels.group_folds(np.arange(300), folds=5, seed=0)
    curve = learning_curve(labels, SINGLE, places, np.full(300, 0.5), seed=1, draws=2)
    assert curve.gain is not None
    accuracies = [point.accuracy.estimate for point in curve.points]
    slope = np.polyfit(np.log2([25, 50, 100, 200]), accuracies, 1)[0]
    assert curve.gain.estimate == pytest.approx(slope * np.log2(350 / 300))


def test_few_pairs_have_no_gain_and_no_curve(labels: Labels) -> None:
    few = Labels({"embedding": labels.blocks["embedding"][:40]}, 40, labels.groups[:40], labels.families[:40])
    curve = learning_curve(few, SINGLE, few.group_folds(np.arange(40), folds=5, seed=0), np.ones(40), seed=0, draws=1)
    assert [point.labels for point in curve.points] == [25]
    assert curve.gain is None
    assert not curve.gain_is_told


def test_the_picture_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    point = CurvePoint(25, Interval(0.6, 0.5, 0.7, 100), Interval(0.1, 0.0, 0.2, 100), 0.55, 0.65)
    curve = LearningCurve((point,), 2, 50, None)
    for name in ("a.svg", "b.svg"):
        draw_curve(curve, {"longer wins": 0.655, "TF-IDF": 0.657}, tmp_path / name)
    content = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert content == (tmp_path / "b.svg").read_text(encoding="utf-8")
    assert "longer wins 65.5%" in content
    assert "What labels buy" in content
