"""Intervals, paired comparisons, pass@k and performance gap recovered: no number without its n and its interval.

Outcomes come as arrays of 0 and 1 shaped ``(seeds, items)`` (a flat array is one seed); NaN marks an answer that was
not graded and is left out, in every arm of a comparison at once. Seeds and items are resampled together (the pigeonhole
bootstrap, Owen 2007, which errs on the wide side), and always the same draw for every arm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from strop.errors import UserError

Outcomes = NDArray[np.float64]
RecoveryVerdict = Literal["recovers", "does not recover", "cannot tell at this n"]

LEVEL = 0.95
RESAMPLES = 2_000
POWER = 0.8
SMALLEST_RECOVERY = 0.1
"""A gap recovered that is surely below this share counts as none."""
FEWEST_ITEMS = 20
"""Below this many items a seed, resampling them says too little to pass a verdict on."""

_DRAWS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval and the number of observations behind it."""

    estimate: float
    low: float
    high: float
    n: int
    level: float = LEVEL

    @property
    def half_width(self) -> float:
        """Half the length of the interval."""
        return (self.high - self.low) / 2

    def excludes(self, value: float) -> bool:
        """Say whether `value` lies outside the interval."""
        return not self.low <= value <= self.high


def wilson(successes: float, n: float, *, level: float = LEVEL) -> Interval:
    """Return a share with its Wilson score interval (Wilson 1927), which stays inside 0 and 1.

    Args:
        successes: Number of successes, 0 to `n`; fractions are allowed (an effective count of clustered data).
        n: Number of trials, above 0.
        level: Confidence level, between 0 and 1.

    Raises:
        UserError: There are no trials, or more successes than trials.
    """
    from scipy.stats import norm

    if not 0 <= successes <= n or n <= 0:
        raise UserError("a share needs trials, and no more successes than trials", value=f"{successes} of {n}")
    share, z = successes / n, float(norm.ppf(0.5 + level / 2))
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At 0 and n successes one bound is exactly 0 or 1; rounding must not move it past the estimate.
    low, high = (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)
    return Interval(share, max(0.0, low), min(1.0, high), math.floor(n), level)


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Two columns of predictions on the same items.

    Attributes:
        n: Items graded in both columns.
        left_out: Items not graded in one of them.
        only_first: Items that only the first column has right.
        only_second: Items that only the second column has right.
        difference: Accuracy of the first minus that of the second, with Agresti and Min's (2005) interval.
        p_value: Exact McNemar test, two-sided.
        items_needed: Items at which a difference of this size would be found with power 0.8; None without a difference.
    """

    n: int
    left_out: int
    only_first: int
    only_second: int
    difference: Interval
    p_value: float
    items_needed: int | None

    @property
    def distinguishable(self) -> bool:
        """Say whether the two differ at the interval's level."""
        return self.p_value < 1 - self.difference.level


def compare_paired(first: ArrayLike, second: ArrayLike, *, level: float = LEVEL) -> PairedComparison:
    """Compare two prediction columns item by item (exact McNemar test).

    Args:
        first: Outcomes 0, 1 or NaN, one an item.
        second: Outcomes of the other column, in the same order.
        level: Confidence level of the interval and of the verdict.

    Raises:
        UserError: The columns differ in length, or no item is graded in both.
    """
    from scipy.stats import binomtest, norm

    (left, right), left_out = _common([first, second])
    n = int(np.isfinite(left).sum())
    only_first, only_second = int(np.nansum(left > right)), int(np.nansum(right > left))
    discordant = only_first + only_second
    # Half an observation in each of the four cells keeps the interval honest when nothing, or everything, differs.
    adjusted = n + 2
    shift = (only_first - only_second) / adjusted
    error = math.sqrt(max(0.0, (discordant + 1) / adjusted - shift * shift) / adjusted)
    half = float(norm.ppf(0.5 + level / 2)) * error
    estimate = (only_first - only_second) / n
    return PairedComparison(
        n=n,
        left_out=left_out,
        only_first=only_first,
        only_second=only_second,
        difference=Interval(estimate, max(-1.0, shift - half), min(1.0, shift + half), n, level),
        p_value=float(binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0,
        items_needed=_items_for_paired(discordant / n, estimate, level),
    )


def _items_for_paired(discordant: float, difference: float, level: float) -> int | None:
    """Return the sample size of a paired comparison at power 0.8 (Connor 1987)."""
    from scipy.stats import norm

    if difference == 0:
        return None
    z_level, z_power = float(norm.ppf(0.5 + level / 2)), float(norm.ppf(POWER))
    spread = z_level * math.sqrt(discordant) + z_power * math.sqrt(max(0.0, discordant - difference**2))
    return math.ceil((spread / difference) ** 2)


def pass_at_k(correct: Sequence[int], samples: int, k: int) -> float:
    """Return the unbiased estimate of pass@k (Chen et al. 2021): the mean over questions of 1 - C(n-c,k)/C(n,k).

    Args:
        correct: For each question, how many of its `samples` answers are right.
        samples: Answers a question, n.
        k: Answers that are allowed, 1 to n.

    Raises:
        UserError: `k` or a count is out of range, or there is no question.
    """
    _check_counts(correct, samples, k)
    ways = math.comb(samples, k)
    return sum(1 - math.comb(samples - count, k) / ways for count in correct) / len(correct)


def any_of_k(outcomes: Sequence[Sequence[bool]], k: int) -> float:
    """Return the paper's pass@k: the share of questions with a right answer among the first `k` samples.

    Differs from `pass_at_k` when there are more than `k` samples: it uses the first `k` only and has more variance.
    """
    for row in outcomes:
        _check_counts([sum(row)], len(row), k)
    if not outcomes:
        raise UserError("pass@k needs at least one question")
    return sum(any(row[:k]) for row in outcomes) / len(outcomes)


def _check_counts(correct: Sequence[int], samples: int, k: int) -> None:
    if not len(correct):
        raise UserError("pass@k needs at least one question")
    if not 1 <= k <= samples:
        raise UserError("pass@k needs at least k samples a question", value=f"k = {k}, {samples} samples")
    if any(not 0 <= count <= samples for count in correct):
        raise UserError("a question has more right answers than samples", value=max(correct))


def mean_interval(
    outcomes: ArrayLike,
    generator: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    same_items: bool = True,
) -> Interval:
    """Return the mean of outcomes with a bootstrap interval over seeds and items; see `bootstrap_means`."""
    (values,), _ = _common([outcomes])
    means = bootstrap_means([values], generator, resamples=resamples, same_items=same_items)[:, 0]
    return _percentiles(float(np.nanmean(values)), means, int(np.isfinite(values).sum()), level)


def difference_interval(
    first: ArrayLike,
    second: ArrayLike,
    generator: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    same_items: bool = True,
) -> Interval:
    """Return mean(first) - mean(second) with a bootstrap interval, paired over seeds and items."""
    arms, _ = _common([first, second])
    means = bootstrap_means(arms, generator, resamples=resamples, same_items=same_items)
    estimate = float(np.nanmean(arms[0]) - np.nanmean(arms[1]))
    return _percentiles(estimate, means[:, 0] - means[:, 1], int(np.isfinite(arms[0]).sum()), level)


def bootstrap_means(
    arms: Sequence[ArrayLike],
    generator: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
    same_items: bool = True,
) -> NDArray[np.float64]:
    """Return the means of all arms under joint resampling.

    Args:
        arms: Outcomes ``(seeds, items)``, all of one shape.
        generator: Source of the draws.
        resamples: Number of draws.
        same_items: Every seed was tested on the same items: one draw of items then serves all seeds. False where each
            seed has items of its own: they are drawn within each drawn seed.

    Returns:
        Means ``(resamples, arms)``; the draw of seeds and items is the same for all arms.
    """
    values, _ = _common(arms)
    known = np.isfinite(values[0]).astype(np.float64)
    filled = np.stack([np.nan_to_num(arm) for arm in values])
    parts = []
    for start in range(0, resamples, _DRAWS_AT_ONCE):
        size = min(_DRAWS_AT_ONCE, resamples - start)
        weighted = _crossed if same_items else _nested
        parts.append(weighted(filled, known, generator, size))
    return np.concatenate(parts)


def _crossed(
    filled: NDArray[np.float64], known: Outcomes, generator: np.random.Generator, size: int
) -> NDArray[np.float64]:
    seeds, items = known.shape
    seed_weights = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=size)
    item_weights = generator.multinomial(items, np.full(items, 1 / items), size=size)
    sums = np.einsum("bs,asb->ba", seed_weights, filled @ item_weights.T)
    counts = np.einsum("bs,sb->b", seed_weights, known @ item_weights.T)
    return _shares(sums, counts)


def _nested(
    filled: NDArray[np.float64], known: Outcomes, generator: np.random.Generator, size: int
) -> NDArray[np.float64]:
    seeds, items = known.shape
    sums, counts = np.zeros((size, len(filled))), np.zeros(size)
    for _ in range(seeds):
        drawn = generator.integers(seeds, size=size)
        item_weights = generator.multinomial(items, np.full(items, 1 / items), size=size)
        sums += np.einsum("abi,bi->ba", filled[:, drawn], item_weights)
        counts += np.einsum("bi,bi->b", known[drawn], item_weights)
    return _shares(sums, counts)


def _shares(sums: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return sums / np.where(counts > 0, counts, np.nan)[:, None]


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
    arms, left_out = _common([floor, model, ceiling])
    means = bootstrap_means(arms, generator, resamples=resamples, same_items=same_items)
    centre = [float(np.nanmean(arm)) for arm in arms]
    n = int(np.isfinite(arms[0]).sum())
    gap = _percentiles(centre[2] - centre[0], means[:, 2] - means[:, 0], n, level)
    gain = _percentiles(centre[1] - centre[0], means[:, 1] - means[:, 0], n, level)
    seeds, items = arms[0].shape

    def result(recovered: Interval | None, verdict: RecoveryVerdict, needed: Needed | None) -> GapRecovered:
        return GapRecovered(recovered, gap, gain, verdict, needed, seeds, items, left_out)

    if items < FEWEST_ITEMS:
        return result(None, "cannot tell at this n", Needed(FEWEST_ITEMS, None))
    if gap.low <= 0:
        return result(None, "cannot tell at this n", _needed(arms[2] - arms[0], level))
    recovered = _percentiles(gain.estimate / gap.estimate, _ratios(means), n, level)
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


def _percentiles(estimate: float, draws: NDArray[np.float64], n: int, level: float) -> Interval:
    known = draws[~np.isnan(draws)]
    if not len(known):
        return Interval(estimate, -math.inf, math.inf, n, level)
    # No interpolation: between a finite and an infinite draw it has no meaning.
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return Interval(estimate, float(low), float(high), n, level)


def _common(arms: Sequence[ArrayLike]) -> tuple[list[Outcomes], int]:
    """Return the arms as ``(seeds, items)`` with NaN wherever one of them is not graded, and how many that are."""
    arrays = [np.atleast_2d(np.asarray(arm, dtype=np.float64)).copy() for arm in arms]
    shapes = [array.shape for array in arrays]
    if len(set(shapes)) > 1 or arrays[0].ndim != 2:
        raise UserError("the arms must hold the same seeds and items", value=shapes)
    missing = np.any([~np.isfinite(array) for array in arrays], axis=0)
    if missing.all():
        raise UserError("no item is graded in all arms", value=shapes[0])
    for array in arrays:
        array[missing] = np.nan
    return arrays, int(missing.sum())
