"""What a reward model is worth on labelled pairs: accuracy, AUC, calibration, by slice, with intervals over groups.

A pair's margin is the reward of the preferred response minus that of the other one. Only margins enter: adding a number
to every reward changes no figure.

The probability that a reward model gives to the preference is sigma(margin), as Bradley and Terry's loss reads it. With
the preferred response always first there is only one class, no AUC and no calibration; each pair is therefore turned
by a coin that is drawn from the seed and its id: p = sigma(r_1 - r_2), label 1 where the first response is preferred.
The published figures (arXiv 2502.19731) name AUC, ECE and Brier without a definition; this is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from strop.errors import UserError
from strop.evaluation.statistics import LEVEL, SHARE, Interval, NotEstimable, cluster_bootstrap
from strop.evaluation.statistics.clusters import Statistic
from strop.records.rows import Identifier
from strop.runs.seeds import derive_seed

Floats = NDArray[np.float64]
Estimate = Interval | NotEstimable

BINS = 10
"""Bins of equal width of the expected calibration error."""
RESAMPLES = 500
"""Draws for the intervals of AUC and calibration error, which no closed form makes fast."""
TIED = 1e-6
"""Margins up to this size are ties: two texts scored in float32 differ by that much through rounding alone."""

Verdict = Literal["ranks", "cannot tell", "ranks the wrong way", "equal scores"]


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """A labelled pair with the rewards of its two responses.

    Attributes:
        id: The pair's id.
        chosen: Reward of the response that the label prefers.
        rejected: Reward of the other one.
        group: What is resampled as a whole: a speech, a client, a conversation.
        slices: By kind (``gap``, ``source``, ...) the slice that the pair belongs to.
    """

    id: Identifier
    chosen: float
    rejected: float
    group: str
    slices: Mapping[str, str]

    @property
    def margin(self) -> float:
        """Reward of the preferred response minus that of the other one."""
        return self.chosen - self.rejected


@dataclass(frozen=True, slots=True)
class RewardFigures:
    """How a reward model does on some pairs.

    Attributes:
        pairs: How many.
        ties: How many got equal rewards.
        accuracy: Share of pairs ordered as labelled, a tie counted half.
        auc: Area under the ROC curve of sigma(r_1 - r_2); chance is 0.5.
        ece: Expected calibration error over `BINS` bins of equal width; its bootstrap interval leans upwards, as the
            error itself does at few pairs.
        brier: Mean squared difference of the probability and the label; 0.25 is a coin that says so.
        margin: Mean margin, in the model's own units.
    """

    pairs: int
    ties: int
    accuracy: Interval
    auc: Estimate
    ece: Interval
    brier: Interval
    margin: Interval

    def to_row(self) -> dict[str, Any]:
        """Return the figures as JSON; an end that the data do not bound is null."""
        row = asdict(self)
        row["margin"] = {
            key: value if math.isfinite(value) else None for key, value in row["margin"].items() if value is not None
        }
        return row


@dataclass(frozen=True, slots=True)
class RewardQuality:
    """What a reward model is worth on labelled pairs.

    Attributes:
        overall: On all pairs.
        slices: By kind of slice and slice, those with a pair in them.
        verdict: What the accuracy allows to say.
    """

    overall: RewardFigures
    slices: Mapping[str, Mapping[str, RewardFigures]]
    verdict: Verdict

    def to_row(self) -> dict[str, Any]:
        """Return everything as JSON."""
        slices = {kind: {name: figures.to_row() for name, figures in of.items()} for kind, of in self.slices.items()}
        return {"verdict": self.verdict, "overall": self.overall.to_row(), "slices": slices}

    def finding(self) -> str:
        """Say in one sentence what the figures show."""
        accuracy = self.overall.accuracy
        share = f"{accuracy.estimate:.1%} ({accuracy.low:.1%} to {accuracy.high:.1%}) of {accuracy.n:,} pairs"
        match self.verdict:
            case "equal scores":
                return "the reward model gives both responses of every pair the same reward: it has learned nothing"
            case "ranks":
                return f"the reward model orders {share} as labelled: better than a coin"
            case "ranks the wrong way":
                return f"the reward model orders {share} as labelled: worse than a coin; are the sides exchanged?"
        return f"the reward model orders {share} as labelled: not distinguishable from a coin"


def reward_quality(
    pairs: Sequence[ScoredPair],
    *,
    principles: Mapping[str, Sequence[ScoredPair]] | None = None,
    seed: int,
    level: float = LEVEL,
) -> RewardQuality:
    """Return the figures of a reward model on labelled pairs, on all of them and by slice.

    Args:
        pairs: At least one, with finite rewards and ids of their own.
        principles: By principle the pairs whose ratings differ on it, the one that it rates higher as the chosen one;
            they make the slices of kind ``principle``.
        seed: Of the orientation of the pairs and of the intervals.
        level: Confidence level.

    Raises:
        UserError: There is no pair, an id occurs twice, or a reward is no number.
    """
    for part in (pairs, *(principles or {}).values()):
        _check(part)
    shelves: dict[str, dict[str, list[ScoredPair]]] = {}
    for pair in pairs:
        for kind, name in pair.slices.items():
            shelves.setdefault(kind, {}).setdefault(name, []).append(pair)
    overall = figures_of(pairs, seed=seed, level=level)
    slices = {
        kind: {name: figures_of(of[name], seed=seed, level=level) for name in sorted(of)}
        for kind, of in shelves.items()
    }
    if principles:
        slices["principle"] = {name: figures_of(of, seed=seed, level=level) for name, of in principles.items()}
    return RewardQuality(overall, slices, _verdict(overall))


def figures_of(pairs: Sequence[ScoredPair], *, seed: int, level: float = LEVEL) -> RewardFigures:
    """Return the figures on some pairs; see `RewardFigures`.

    Args:
        pairs: At least one.
        seed: Of the orientation of the pairs and of the intervals.
        level: Confidence level.
    """
    margins = np.array([pair.margin for pair in pairs])
    margins[np.abs(margins) <= TIED] = 0.0
    groups: list[Hashable] = [pair.group for pair in pairs]
    probabilities, labels = oriented(margins, [pair.id for pair in pairs], seed=seed)
    both = np.stack([probabilities, labels], axis=1)

    def interval(
        name: str, values: ArrayLike, bounds: tuple[float, float], statistic: Statistic | None = None
    ) -> Interval:
        generator = np.random.default_rng(derive_seed(seed, "reward figures", name))
        if statistic is None:
            return cluster_bootstrap(values, groups, generator, bounds=bounds, level=level)
        return cluster_bootstrap(
            values, groups, generator, statistic=statistic, bounds=bounds, resamples=RESAMPLES, level=level
        )

    one_class = len(set(labels.tolist())) < 2
    return RewardFigures(
        pairs=len(pairs),
        ties=int((margins == 0).sum()),
        accuracy=interval("accuracy", (np.sign(margins) + 1) / 2, SHARE),
        auc=NotEstimable("the coin put all pairs into one class", len(pairs))
        if one_class
        else interval("auc", both, SHARE, _columns(auc)),
        ece=interval("ece", both, SHARE, _columns(expected_calibration_error)),
        brier=interval("brier", (probabilities - labels) ** 2, SHARE),
        margin=interval("margin", margins, (-math.inf, math.inf)),
    )


def oriented(margins: Floats, ids: Sequence[Identifier], *, seed: int) -> tuple[Floats, Floats]:
    """Turn each pair by a coin; return sigma(r_1 - r_2) and the label, 1 where the first response is preferred.

    The coin is drawn from the seed and the pair's id, so that neither the order of pairs nor other pairs move it.

    Args:
        margins: Reward of the preferred response minus that of the other one, ``(pairs,)``.
        ids: The id of each pair.
        seed: Of the coins.

    Returns:
        Probabilities and labels, ``(pairs,)`` each.
    """
    heads = [derive_seed(seed, "orientation", identifier) & 1 for identifier in ids]
    labels = np.array(heads, dtype=np.float64)
    return sigmoid(np.where(labels == 1, margins, -margins)), labels


def sigmoid(values: Floats) -> Floats:
    """Return 1 / (1 + exp(-values)), without overflow."""
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1.0, small) / (1.0 + small)


def auc(probabilities: Floats, labels: Floats) -> float:
    """Return the area under the ROC curve: the chance that a pair of label 1 has the higher probability, ties half.

    Args:
        probabilities: ``(pairs,)``.
        labels: 0 or 1, ``(pairs,)``.

    Returns:
        Mann and Whitney's U over the number of comparisons; NaN with one class.
    """
    positive, negative = probabilities[labels == 1], np.sort(probabilities[labels != 1])
    if not len(positive) or not len(negative):
        return math.nan
    below = np.searchsorted(negative, positive, side="left") + np.searchsorted(negative, positive, side="right")
    return float(below.sum() / (2 * len(positive) * len(negative)))


def expected_calibration_error(probabilities: Floats, labels: Floats, *, bins: int = BINS) -> float:
    """Return the mean distance of probability and frequency over bins, weighted by their pairs.

    Args:
        probabilities: Of label 1, ``(pairs,)``.
        labels: 0 or 1, ``(pairs,)``.
        bins: Number of bins of equal width between 0 and 1, each closed below; the last one holds 1 too.
    """
    places = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(places, weights=probabilities - labels, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def _columns(function: Callable[[Floats, Floats], float]) -> Statistic:
    return lambda rows: function(rows[:, 0], rows[:, 1])


def _verdict(overall: RewardFigures) -> Verdict:
    if overall.ties == overall.pairs:
        return "equal scores"
    if not overall.accuracy.excludes(0.5):
        return "cannot tell"
    return "ranks" if overall.accuracy.estimate > 0.5 else "ranks the wrong way"


def _check(pairs: Sequence[ScoredPair]) -> None:
    if not pairs:
        raise UserError("no pairs to examine a reward model on")
    seen: set[Identifier] = set()
    for pair in pairs:
        if pair.id in seen:
            raise UserError("an id occurs more than once", value=pair.id, fix="give every pair its own id")
        seen.add(pair.id)
        if not (math.isfinite(pair.chosen) and math.isfinite(pair.rejected)):
            raise UserError(
                f"a reward of pair {pair.id!r} is not a number",
                value=(pair.chosen, pair.rejected),
                why="a reward model that overflows ranks nothing",
                fix="train it with precision: fp32 or a lower learning rate",
            )
