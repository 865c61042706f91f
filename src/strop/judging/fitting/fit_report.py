"""What a fit can and cannot show: accuracies beside baselines, paired differences, and the n that would settle them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop.evaluation.statistics import (
    POWER,
    SHARE,
    Interval,
    cluster_bootstrap,
    items_needed,
    paired_cluster_difference,
)
from strop.judging.fitting.grid import Setting
from strop.judging.fitting.learning_curve import LearningCurve
from strop.judging.pairs import HumanPair
from strop.judging.qualifying.slices import slices_of
from strop.runs.seeds import derive_seed

FEW_GROUPS = 10
"""Below this many groups an interval over groups is weak evidence, and the report says so."""

FEWEST_DECIDED = 6
"""Fewest pairs that two must disagree on: with five no exact sign test rejects at 5 %, whoever wins them all."""

Correct = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Versus:
    """The judge beside a baseline on the same pairs.

    Attributes:
        baseline: The baseline's own accuracy.
        difference: The judge's minus the baseline's, paired.
        needed: About how many pairs would tell the two apart, were the difference as measured; None for no difference.
        smallest: The difference that this many pairs find with power 0.8; None where the interval is degenerate.
        decided: Pairs on which the two are not equally right.
    """

    baseline: Interval
    difference: Interval
    needed: int | None
    smallest: float | None
    decided: int

    @property
    def distinguishable(self) -> bool:
        """Say whether the two can be told apart: the interval leaves out 0, and enough pairs decide."""
        return self.difference.excludes(0) and self.decided >= FEWEST_DECIDED


@dataclass(frozen=True, slots=True)
class SliceFigures:
    """How the judge does on some of the pairs, out of fold.

    Attributes:
        name: Which pairs.
        accuracy: With a tie counted half; None where there is no such pair.
        versus: By name of the baseline.
        unavailable: Why there are no figures; empty where there are.
    """

    name: str
    accuracy: Interval | None
    versus: Mapping[str, Versus]
    unavailable: str = ""


@dataclass(frozen=True, slots=True)
class ExtraFile:
    """What a file of extra labels brought.

    Attributes:
        path: The file.
        rows: Its rows.
        preferences: Pairs that can be learnt from, after copies of the file's own pairs were left out.
        copies: Those copies.
        left_out: Other rows left out, by reason.
    """

    path: str
    rows: int
    preferences: int
    copies: int
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class FitReport:
    """Everything that a fit found out.

    Attributes:
        pairs: Pairs that were fitted and reported on.
        groups: Groups that cross-validation kept whole and intervals resample.
        left_out: Rows of the file that are no usable pairs, by reason.
        computed: Flags that the file lacks and that a rule filled in.
        extra: The files of extra labels.
        extra_used: Extra labels that each outer fold could learn from.
        texts: Texts embedded.
        divided: Of those, texts over the encoder's window, embedded in parts.
        grid: Name of the grid.
        tried: How many settings were tried in every choice.
        chosen: The setting chosen in each outer fold.
        setting: The setting of the judge that is kept.
        slices: All pairs first.
        curve: What labels buy.
        seed: Of folds, draws and intervals.
        encoder: Name of the encoder.
        revision: Of the judge that is kept.
        data_hash: Of the pairs.
    """

    pairs: int
    groups: int
    left_out: Mapping[str, int]
    computed: Sequence[str]
    extra: Sequence[ExtraFile]
    extra_used: Sequence[int]
    texts: int
    divided: int
    grid: str
    tried: int
    chosen: Sequence[Setting]
    setting: Setting
    slices: Sequence[SliceFigures]
    curve: LearningCurve
    seed: int
    encoder: str
    revision: str
    data_hash: str

    def to_row(self) -> dict[str, Any]:
        """Return the report as JSON, its plain words with it."""
        return {**asdict(self), "findings": list(findings(self))}


def figures(
    pairs: Sequence[HumanPair],
    groups: Sequence[str],
    right: Correct,
    baselines: Mapping[str, Correct],
    *,
    seed: int,
) -> list[SliceFigures]:
    """Return the judge's figures on every slice, beside each baseline's on the same pairs.

    Args:
        pairs: The pairs, for the slices.
        groups: The group of each pair.
        right: Whether the judge is right about each pair, out of fold: 0, 0.5 for a tie, 1.
        baselines: The same of every baseline.
        seed: Of the bootstrap.
    """
    found = []
    for part in slices_of(pairs):
        if part.unavailable:
            found.append(SliceFigures(part.name, None, {}, part.unavailable))
            continue
        members = np.flatnonzero(part.members)
        own = [groups[member] for member in members.tolist()]
        accuracy = cluster_bootstrap(right[members], own, _generator(seed, part.name), bounds=SHARE)
        versus = {
            name: _versus(right[members], theirs[members], own, _generator(seed, part.name, name))
            for name, theirs in baselines.items()
        }
        found.append(SliceFigures(part.name, accuracy, versus))
    return found


def _generator(seed: int, *stream: str) -> np.random.Generator:
    return np.random.default_rng(derive_seed(seed, "fit interval", *stream))


def _versus(right: Correct, theirs: Correct, groups: Sequence[str], generator: np.random.Generator) -> Versus:
    difference = paired_cluster_difference(right, theirs, groups, generator)
    baseline = cluster_bootstrap(theirs, groups, generator, bounds=SHARE)
    decided = int((right != theirs).sum())
    return Versus(baseline, difference, items_needed(difference, 0.0), smallest_shown(difference), decided)


def smallest_shown(difference: Interval) -> float | None:
    """Return the difference that data like these would find with power 0.8; None where the interval has no length."""
    from scipy.stats import norm

    at_level = float(norm.ppf((1 + difference.level) / 2))
    error = difference.half_width / at_level
    return (at_level + float(norm.ppf(POWER))) * error if 0 < error < np.inf else None


def findings(report: FitReport) -> Iterator[str]:
    """Say in plain words what the figures show, what they do not, and what would be needed."""
    everything = report.slices[0]
    assert everything.accuracy is not None  # there are pairs, or the fit had been refused
    yield (
        f"out of fold the judge agrees with people on {share(everything.accuracy)} of {report.pairs:,} pairs "
        f"in {report.groups:,} groups"
    )
    if not everything.accuracy.excludes(0.5):
        yield "that is not distinguishable from a coin"
    yield (
        f"{report.tried:,} settings were tried in every choice, always inside the training part: these figures "
        "are of pairs that no choice has seen"
    )
    for part in report.slices[:2]:
        for name, versus in part.versus.items():
            yield f"{part.name}: {compared(name, versus)}"
    few = [part.name for part in report.slices if part.accuracy and (part.accuracy.groups or 0) < FEW_GROUPS]
    if few:
        yield f"fewer than {FEW_GROUPS} groups, weak evidence: {', '.join(few)}"
    yield from curve_findings(report.curve)


def share(interval: Interval) -> str:
    """Return a share with its interval as a person reads it."""
    return f"{interval.estimate:.1%} ({interval.low:.1%} to {interval.high:.1%})"


def _points(interval: Interval) -> str:
    low, middle, high = (100 * value for value in (interval.low, interval.estimate, interval.high))
    return f"{middle:+.1f} points ({low:+.1f} to {high:+.1f})"


def compared(name: str, versus: Versus) -> str:
    """Say what the paired difference to a baseline allows to say."""
    said = f"{_points(versus.difference)} against {name!r} at {versus.baseline.estimate:.1%}"
    if versus.distinguishable:
        return f"{said}: {'better' if versus.difference.estimate > 0 else 'worse'}, beyond chance"
    if versus.decided < FEWEST_DECIDED:
        return f"{said}: not distinguishable, they differ on {versus.decided} of {versus.difference.n:,} pairs"
    said += ": not distinguishable at this n"
    if versus.smallest is not None:
        said += f"; {versus.difference.n:,} pairs like these can show {100 * versus.smallest:.0f} points or more"
    return said + (f"; a difference as measured needs about {versus.needed:,} pairs" if versus.needed else "")


def curve_findings(curve: LearningCurve) -> Iterator[str]:
    """Say in plain words what labels buy."""
    if not curve.points:
        yield "too few pairs for a learning curve"
    for point in curve.points:
        yield (
            f"{point.labels:,} labels buy {share(point.accuracy)}, {_points(point.over_longer)} against 'longer wins' "
            f"which needs none; draws from {point.lowest:.1%} to {point.highest:.1%}"
        )
    if curve.gain is None or not curve.gain_is_told:
        seen = f": {_points(curve.gain)} by a straight line over log(labels)" if curve.gain else ""
        yield f"what the next {curve.next_labels} labels would add: cannot tell{seen}"
    else:
        yield f"the next {curve.next_labels} labels would add about {_points(curve.gain)}, were the line to go on"
