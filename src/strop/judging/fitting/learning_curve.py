"""What labels buy: the accuracy of a judge fitted to 25, 50, 100, ... of them, and what the next ones would add."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strop.evaluation.statistics import SHARE, Interval, cluster_bootstrap, mean_interval, paired_cluster_difference
from strop.judging.fitting.fitting import Labels, Rows, choose, fit_weights, margins
from strop.judging.fitting.grid import Grid
from strop.judging.qualifying.baselines import correctness
from strop.judging.qualifying.folds import Folds
from strop.runs.seeds import derive_seed

FIRST_SIZE = 25
DRAWS = 10
CURVE_FOLDS = 3
NEXT_LABELS = 50
FEWEST_POINTS = 3

Correct = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The accuracy that a number of labels buys.

    Attributes:
        labels: How many.
        accuracy: Mean over draws, with a bootstrap interval over groups of test pairs.
        over_longer: That minus the accuracy of "longer wins", which needs no label, on the same pairs.
        lowest: Accuracy of the worst draw of labels.
        highest: Accuracy of the best draw.
    """

    labels: int
    accuracy: Interval
    over_longer: Interval
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """Accuracies at growing numbers of labels.

    Attributes:
        points: From few labels to many; empty where the file is too small for the first size.
        draws: How many times labels were drawn for every point.
        next_labels: How many further labels `gain` is about.
        gain: The accuracy that they would add, read off a straight line over the logarithm of the number of labels;
            None with fewer than three points or a single draw of labels.
    """

    points: tuple[CurvePoint, ...]
    draws: int
    next_labels: int
    gain: Interval | None

    @property
    def gain_is_told(self) -> bool:
        """Say whether the sign of the gain can be told."""
        return self.gain is not None and self.gain.excludes(0)


def curve_sizes(folds: Folds) -> tuple[int, ...]:
    """Return 25 and its doublings, as far as every fold's training part has so many labels."""
    fewest = min(int((folds != fold).sum()) for fold in np.unique(folds))
    sizes, size = [], FIRST_SIZE
    while size <= fewest:
        sizes.append(size)
        size *= 2
    return tuple(sizes)


def learning_curve(
    labels: Labels,
    grid: Grid,
    folds: Folds,
    longer: Correct,
    *,
    seed: int,
    draws: int = DRAWS,
    advance: Callable[[int], None] | None = None,
) -> LearningCurve:
    """Measure the learning curve of the file's own labels, without extra ones.

    In every fold and draw the groups of the training part are shuffled and labels taken from the front, so that the
    larger sets hold the smaller ones; the setting is chosen anew from those labels alone, and the held-out pairs of the
    fold are judged.

    Args:
        labels: All rows.
        grid: The settings to choose among.
        folds: The fold of every own row.
        longer: Whether "longer wins" is right about each own row: ``(own,)``.
        seed: Of the draws and of the intervals.
        draws: How many draws of labels.
        advance: Told the number of points done, of ``sizes x folds x draws``.
    """
    sizes = curve_sizes(folds)
    right = _correct_by_size(labels, grid.without_extra(), folds, sizes, seed=seed, draws=draws, advance=advance)
    groups = list(labels.groups)
    points = []
    for size, of_size in zip(sizes, right, strict=True):
        mean, of_draws = of_size.mean(axis=0), of_size.mean(axis=1)
        points.append(
            CurvePoint(
                labels=size,
                accuracy=cluster_bootstrap(mean, groups, _generator(seed, size), bounds=SHARE),
                over_longer=paired_cluster_difference(mean, longer, groups, _generator(seed, size)),
                lowest=float(of_draws.min()),
                highest=float(of_draws.max()),
            )
        )
    told = len(sizes) >= FEWEST_POINTS and draws > 1
    gain = _gain(right, sizes, labels, seed) if told else None
    return LearningCurve(tuple(points), draws, NEXT_LABELS, gain)


def _generator(seed: int, *stream: int | str) -> np.random.Generator:
    return np.random.default_rng(derive_seed(seed, "curve interval", *stream))


def _correct_by_size(
    labels: Labels,
    grid: Grid,
    folds: Folds,
    sizes: Sequence[int],
    *,
    seed: int,
    draws: int,
    advance: Callable[[int], None] | None,
) -> Correct:
    """Return whether each own row is judged rightly: ``(sizes, draws, own)`` of 0, 0.5 and 1."""
    right = np.zeros((len(sizes), draws, labels.own))
    own = np.arange(labels.own)
    for draw in range(draws):
        for fold in np.unique(folds):
            tested = own[folds == fold]
            drawn_seed = derive_seed(seed, "curve", draw, int(fold))
            ordered = shuffled_by_group(labels, own[folds != fold], np.random.default_rng(drawn_seed))
            for place, size in enumerate(sizes):
                rows = ordered[:size]
                setting = choose(labels, rows, grid, held_out=tested, seed=drawn_seed, folds=CURVE_FOLDS)
                weights = fit_weights(labels, rows, setting)
                right[place, draw, tested] = correctness(margins(labels, tested, setting, weights))
                if advance:
                    advance(1)
    return right


def shuffled_by_group(labels: Labels, rows: Rows, generator: np.random.Generator) -> Rows:
    """Return `rows` with their groups in random order, the rows of a group together."""
    groups = np.array([labels.groups[row] for row in rows])
    different = np.unique(groups)
    rank = dict(zip(generator.permutation(different).tolist(), range(len(different)), strict=True))
    return rows[np.argsort([rank[group] for group in groups.tolist()], kind="stable")]


def _gain(right: Correct, sizes: Sequence[int], labels: Labels, seed: int) -> Interval:
    """Extrapolate from all own labels to `NEXT_LABELS` more.

    The slope of a least-squares line is a weighted sum of its points, so the predicted gain is the mean of one number
    a draw and pair. Its interval resamples draws of labels together with groups of test pairs, for both could have been
    others; groups enter by their sums, brought to the scale of a mean.

    Args:
        right: Correctness ``(sizes, draws, own)``.
        sizes: Numbers of labels.
        labels: For the groups.
        seed: Of the bootstrap.
    """
    positions = np.log2(np.asarray(sizes, dtype=np.float64))
    centred = positions - positions.mean()
    further = float(np.log2((labels.own + NEXT_LABELS) / labels.own))
    gains = further * np.tensordot(centred, right, axes=1) / float(centred @ centred)
    names, codes = np.unique(labels.groups, return_inverse=True)
    of_groups = np.stack([np.bincount(codes, weights=row, minlength=len(names)) for row in gains])
    return mean_interval(of_groups * len(names) / labels.own, _generator(seed, "gain"))
