"""Outcomes of several seeds on the same items: means and differences under joint resampling of both.

Outcomes come as arrays of 0 and 1 shaped ``(seeds, items)`` (a flat array is one seed); NaN marks an answer that was
not graded and is left out, in every arm of a comparison at once. Seeds and items are resampled together (the pigeonhole
bootstrap, Owen 2007, which errs on the wide side), and always the same draw for every arm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from strop.errors import UserError
from strop.evaluation.statistics.intervals import LEVEL, RESAMPLES, Interval

Outcomes = NDArray[np.float64]

_DRAWS_AT_ONCE = 256


def mean_interval(
    outcomes: ArrayLike,
    generator: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    same_items: bool = True,
) -> Interval:
    """Return the mean of outcomes with a bootstrap interval over seeds and items; see `bootstrap_means`."""
    (values,), _ = common_outcomes([outcomes])
    means = bootstrap_means([values], generator, resamples=resamples, same_items=same_items)[:, 0]
    return percentile_interval(float(np.nanmean(values)), means, int(np.isfinite(values).sum()), level)


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
    arms, _ = common_outcomes([first, second])
    means = bootstrap_means(arms, generator, resamples=resamples, same_items=same_items)
    estimate = float(np.nanmean(arms[0]) - np.nanmean(arms[1]))
    return percentile_interval(estimate, means[:, 0] - means[:, 1], int(np.isfinite(arms[0]).sum()), level)


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
    values, _ = common_outcomes(arms)
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


def percentile_interval(estimate: float, draws: NDArray[np.float64], n: int, level: float) -> Interval:
    """Return the percentile interval of bootstrap draws; a draw that is not defined is left out."""
    known = draws[~np.isnan(draws)]
    if not len(known):
        return Interval(estimate, -math.inf, math.inf, n, level)
    # No interpolation: between a finite and an infinite draw it has no meaning.
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return Interval(estimate, float(low), float(high), n, level)


def common_outcomes(arms: Sequence[ArrayLike]) -> tuple[list[Outcomes], int]:
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
