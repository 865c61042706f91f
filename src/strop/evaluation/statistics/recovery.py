"""Performance gap recovered: what share of the way from the floor to the ceiling a model has come."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from strop.evaluation.statistics.crossed import Outcomes, bootstrap_means, common_outcomes, percentile_interval
from strop.evaluation.statistics.intervals import LEVEL, RESAMPLES, Interval

RecoveryVerdict = Literal["recovers", "does not recover", "cannot tell at this n"]

SMALLEST_RECOVERY = 0.1
"""A gap recovered that is surely below this share counts as none."""
FEWEST_ITEMS = 20
"""Below this many items a seed, resampling them says too little to pass a verdict on."""


@dataclass(frozen=True, slots=True)
class Needed:
    """What would settle a question: items at these seeds, or seeds at these items; None where that alone would not."""

    items: int | None
    seeds: int | None


@dataclass(frozen=True, slots=True)
class GapRecovered:
    """Performance gap recovered: (model - floor) / (ceiling - floor).

    Attributes:
        recovered: The share with its interval; None where the gap itself cannot be told from zero, or items are few.
        gap: Ceiling minus floor.
        gain: Model minus floor.
        verdict: What the intervals allow to say.
        needed: The data that would settle it, where the verdict is "cannot tell" and the effect is not zero.
        seeds: Number of seeds; with one, the interval says nothing about other seeds.
        items: Items a seed.
        left_out: Outcomes not graded in one of the arms.
    """

    recovered: Interval | None
    gap: Interval
    gain: Interval
    verdict: RecoveryVerdict
    needed: Needed | None
    seeds: int
    items: int
    left_out: int


def gap_recovered(
    floor: ArrayLike,
    model: ArrayLike,
    ceiling: ArrayLike,
    generator: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    same_items: bool = True,
) -> GapRecovered:
    """Return the performance gap recovered (Burns et al. 2023) with a joint bootstrap interval and a verdict.

    The weak-to-strong paper prints accuracies only; the interval and the verdict are ours. The model "recovers" when
    the interval lies above 0, "does not recover" when it lies below `SMALLEST_RECOVERY`. While the gap itself cannot
    be told from zero there is nothing to recover a share of, and the verdict is "cannot tell".

    Args:
        floor: Outcomes of the weak model, ``(seeds, items)``.
        model: Outcomes of the model in question.
        ceiling: Outcomes of the strong model trained on gold.
        generator: Source of the draws.
        resamples: Number of bootstrap draws.
        level: Confidence level.
        same_items: See `bootstrap_means`.

    Raises:
        UserError: The arms differ in shape, or no item is graded in all of them.
    """
    arms, left_out = common_outcomes([floor, model, ceiling])
    means = bootstrap_means(arms, generator, resamples=resamples, same_items=same_items)
    centre = [float(np.nanmean(arm)) for arm in arms]
    n = int(np.isfinite(arms[0]).sum())
    gap = percentile_interval(centre[2] - centre[0], means[:, 2] - means[:, 0], n, level)
    gain = percentile_interval(centre[1] - centre[0], means[:, 1] - means[:, 0], n, level)
    seeds, items = arms[0].shape

    def result(recovered: Interval | None, verdict: RecoveryVerdict, needed: Needed | None) -> GapRecovered:
        return GapRecovered(recovered, gap, gain, verdict, needed, seeds, items, left_out)

    if items < FEWEST_ITEMS:
        return result(None, "cannot tell at this n", Needed(FEWEST_ITEMS, None))
    if gap.low <= 0:
        return result(None, "cannot tell at this n", _needed(arms[2] - arms[0], level))
    recovered = percentile_interval(gain.estimate / gap.estimate, _ratios(means), n, level)
    if recovered.low > 0:
        return result(recovered, "recovers", None)
    if recovered.high < SMALLEST_RECOVERY:
        return result(recovered, "does not recover", None)
    return result(recovered, "cannot tell at this n", _needed(arms[1] - arms[0], level))


def _ratios(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide gain by gap; a draw without a gap counts as infinitely good or bad instead of exploding."""
    gain, gap = means[:, 1] - means[:, 0], means[:, 2] - means[:, 0]
    infinite = np.where(gain > 0, np.inf, np.where(gain < 0, -np.inf, 0.0))
    return np.divide(gain, gap, out=infinite, where=gap > 0)


def _needed(difference: Outcomes, level: float) -> Needed | None:
    """Estimate the data at which the interval of a mean difference would leave zero, from its two variances."""
    from scipy.stats import norm

    known = np.isfinite(difference)
    difference = difference[known.any(axis=1)][:, known.any(axis=0)]
    seeds, items = difference.shape
    effect = float(np.nanmean(difference))
    if effect <= 0:
        return None
    by_item, by_seed = np.nanmean(difference, axis=0), np.nanmean(difference, axis=1)
    item_variance = float(np.nanvar(by_item)) / items
    # The spread of the seeds' means holds the items' noise too: only what exceeds it belongs to the seeds.
    noise = float(np.nanmean(np.nanvar(difference, axis=1))) / items
    seed_variance = max(0.0, float(np.var(by_seed, ddof=1)) - noise) / seeds if seeds > 1 else 0.0
    allowed = (effect / float(norm.ppf(0.5 + level / 2))) ** 2
    return Needed(
        items=_scaled(items, item_variance, allowed - seed_variance),
        seeds=_scaled(seeds, seed_variance, allowed - item_variance) if seeds > 1 else None,
    )


def _scaled(n: int, variance: float, allowed: float) -> int | None:
    return max(n + 1, math.ceil(n * variance / allowed)) if allowed > 0 else None
