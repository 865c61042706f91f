"""The arms whose model is frozen: nested cross-validation over a grid, and what labels buy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strop.judging.fitting.features import Describer
from strop.judging.fitting.fitting import OutOfFold, gather, nested
from strop.judging.fitting.grid import Grid
from strop.judging.fitting.label_pool import Preference
from strop.judging.fitting.learning_curve import LearningCurve, curve_sizes, learning_curve
from strop.models.embedding import open_embedder
from strop.models.hidden_states import open_states
from strop.runs.progress import Reporter

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FrozenArm:
    """What a frozen model's features came to.

    Attributes:
        found: Margins of every pair, out of fold, with the settings that were chosen.
        curve: What labels buy; None where it was not asked for.
    """

    found: OutOfFold
    curve: LearningCurve | None


def frozen_arm(
    own: Sequence[Preference],
    describer: Describer,
    grid: Grid,
    longer: Floats,
    *,
    name: str,
    seed: int,
    draws: int,
    reporter: Reporter,
) -> FrozenArm:
    """Choose a setting inside the training part of every fold, and judge the fold's own pairs by it.

    Args:
        own: The pairs.
        describer: The frozen model; it is closed at the end.
        grid: The settings to choose among.
        longer: Whether "longer wins" is right about each pair: ``(pairs,)``.
        name: Of the arm, for the progress bar.
        seed: Of folds, draws and intervals.
        draws: Draws of labels for each point of the learning curve; 0 leaves it out.
        reporter: Shows progress.
    """
    try:
        with reporter.progress(f"{name}: features") as advance:
            labels = gather(own, [], grid.blocks(), describer, advance=advance)
    finally:
        describer.close()
    with reporter.progress(f"{name}: choosing settings", total=5 * len(grid.settings)) as advance:
        found = nested(labels, grid, seed=seed, advance=advance)
    if not draws:
        return FrozenArm(found, None)
    points = len(curve_sizes(found.folds)) * len(found.chosen) * draws
    with reporter.progress(f"{name}: learning curve", total=points) as advance:
        curve = learning_curve(labels, grid, found.folds, longer, seed=seed, draws=draws, advance=advance)
    return FrozenArm(found, curve)


def encoder_describer(spec: str, cache: Path | None) -> Describer:
    """Open a frozen encoder."""
    return open_embedder(spec, cache=cache)


def model_describer(spec: str, cache: Path | None) -> Describer:
    """Open a frozen language model."""
    return open_states(spec, cache=cache)
