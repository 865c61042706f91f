"""What the comparison of reward models on human pairs shows, what it does not, and the n that would decide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop.judging.fitting.fit_report import (
    FEW_GROUPS,
    SliceFigures,
    Versus,
    compared,
    curve_findings,
    figures,
    share,
)
from strop.judging.fitting.learning_curve import LearningCurve
from strop.judging.pairs import HumanPair
from strop.judging.qualifying.slices import ALL, HUMAN_PREFERRED, LENGTH_MATCHED

SHOWN = (ALL, LENGTH_MATCHED, HUMAN_PREFERRED)
"""The slices of the table."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ArmFigures:
    """One row of the table.

    Attributes:
        name: Of the arm.
        slices: Its figures on all pairs, length-matched ones, and those where people preferred the human text; empty
            where the arm was not run.
        chosen: The setting that was chosen in each fold; empty for an arm without a choice.
        curve: What labels buy; None where it was not measured.
    """

    name: str
    slices: tuple[SliceFigures, ...]
    chosen: tuple[str, ...] = ()
    curve: LearningCurve | None = None

    @property
    def missing(self) -> bool:
        """Say whether the arm was not run."""
        return not self.slices


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """Everything that the comparison found out.

    Attributes:
        pairs: Pairs that were compared on.
        groups: Groups that folds kept whole and intervals resample.
        left_out: Rows of the file that are no usable pairs, by reason.
        arms: The table.
        settings_hash: Of the file of grids and settings.
        model: The language model.
        encoder: The encoder.
        seed: Of folds, trainings, draws and intervals.
        data_hash: Of the pairs.
    """

    pairs: int
    groups: int
    left_out: Mapping[str, int]
    arms: tuple[ArmFigures, ...]
    settings_hash: str
    model: str
    encoder: str
    seed: int
    data_hash: str

    def to_row(self) -> dict[str, Any]:
        """Return the report as JSON, its plain words with it."""
        return {**asdict(self), "findings": list(self.findings())}

    def table(self) -> list[dict[str, str]]:
        """Return the table as text: an arm a row, a slice a column, each with its pairs and groups."""
        return [{"arm": arm.name, **{name: _cell(arm, name) for name in SHOWN}} for arm in self.arms]

    def findings(self) -> Iterator[str]:
        """Say in plain words what the figures show, what they do not, and what would be needed."""
        for arm in self.arms:
            if arm.missing:
                yield f"{arm.name}: not run"
                continue
            everything = arm.slices[0]
            assert everything.accuracy is not None
            told = share(everything.accuracy)
            yield f"{arm.name}: right about {told} of {self.pairs:,} pairs in {self.groups:,} groups"
            for part in arm.slices:
                for name, versus in part.versus.items():
                    yield f"{arm.name}, {part.name}: {compared(name, versus)}{_few(versus)}"
            if arm.curve is not None:
                for line in curve_findings(arm.curve):
                    yield f"{arm.name}: {line}"
        yield from self._multiplicity()

    def _multiplicity(self) -> Iterator[str]:
        """Say how many differences would stand out by chance alone."""
        found = [versus for arm in self.arms for part in arm.slices for versus in part.versus.values()]
        outside = sum(versus.distinguishable for versus in found)
        if found:
            by_chance = len(found) * (1 - found[0].difference.level)
            yield (
                f"{outside} of {len(found)} paired differences stand out; were there none, about {by_chance:.1f} would "
                "by chance: a single one proves nothing"
            )


def arm_figures(
    name: str,
    pairs: Sequence[HumanPair],
    groups: Sequence[str],
    right: Floats | None,
    others: Mapping[str, Floats],
    *,
    chosen: tuple[str, ...],
    curve: LearningCurve | None,
    seed: int,
) -> ArmFigures:
    """Return an arm's row of the table, with its paired differences to others.

    Args:
        name: Of the arm.
        pairs: The pairs.
        groups: The group of each.
        right: Whether the arm is right about each pair, out of fold; None where it was not run.
        others: The same of whatever it is compared with, by name.
        chosen: The setting of each fold.
        curve: What labels buy.
        seed: Of the intervals.
    """
    if right is None:
        return ArmFigures(name, ())
    every = {part.name: part for part in figures(pairs, groups, right, others, seed=seed)}
    return ArmFigures(name, tuple(every[shown] for shown in SHOWN), chosen, curve)


def _few(versus: Versus) -> str:
    groups = versus.difference.groups or 0
    return f"; weak evidence, {groups} groups" if groups < FEW_GROUPS else ""


def _cell(arm: ArmFigures, name: str) -> str:
    found = next((part for part in arm.slices if part.name == name), None)
    if found is None:
        return "not run"
    return (
        found.unavailable
        if found.accuracy is None
        else f"{share(found.accuracy)}, {found.accuracy.n} in {found.accuracy.groups}"
    )
