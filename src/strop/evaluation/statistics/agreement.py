"""Agreement of ratings: Cohen's kappa, Krippendorff's alpha, Spearman's correlation, with intervals over groups.

Each measure is a function of how often which two ratings meet. The tables of these counts add up over groups, so
thousands of resamples cost one matrix product; the estimates themselves are scikit-learn's, scipy's and, for alpha,
our own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from strop.errors import UserError
from strop.evaluation.statistics.clusters import Floats, Grouped, group_rows, resampled_sums, widened_percentiles
from strop.evaluation.statistics.intervals import LEVEL, RESAMPLES, Interval, NotEstimable

Weights = Literal["none", "linear", "quadratic"]
Metric = Literal["nominal", "ordinal", "interval"]

CORRELATION = (-1.0, 1.0)
MOST_LEVELS = 40
"""Up to so many different ratings are resampled as tables; beyond, row by row."""


def cohen_kappa(first: ArrayLike, second: ArrayLike, *, weights: Weights) -> float | NotEstimable:
    """Return Cohen's kappa of two raters (Cohen 1960, weighted 1968), by scikit-learn.

    Args:
        first: One rater's ratings, one an item: labels, or whole numbers where the weights measure distances.
        second: The other rater's, in the same order. An item with a NaN is left out.
        weights: ``none`` counts any difference alike, ``linear`` and ``quadratic`` by its size on the whole scale: a
            level between two ratings counts although nobody used it.

    Returns:
        Kappa, at most 1; why there is none where both raters always gave the same rating, or weighted ratings are not
        whole numbers.

    Raises:
        UserError: The raters' items differ in number.
    """
    from sklearn.metrics import cohen_kappa_score

    left, right = _complete(first, second)
    used = sorted({*left.tolist(), *right.tolist()})
    if len(used) < 2:
        return NotEstimable("all ratings are the same" if used else "no item has both ratings", len(left))
    if weights == "none":
        return float(cohen_kappa_score(left, right))
    if any(value != round(value) for value in used):
        return NotEstimable("weighted kappa needs ratings in whole numbers", len(left))
    scale = list(range(round(used[0]), round(used[-1]) + 1))
    return float(cohen_kappa_score(left.astype(int), right.astype(int), labels=scale, weights=weights))


def spearman(first: ArrayLike, second: ArrayLike) -> float | NotEstimable:
    """Return Spearman's rank correlation of two columns, ties at their mean rank, by scipy.

    Args:
        first: Numbers, one an item.
        second: The other column, in the same order. An item with a NaN is left out.

    Raises:
        UserError: The columns differ in length.
    """
    from scipy.stats import spearmanr

    left, right = _complete(first, second)
    if len(set(left.tolist())) < 2 or len(set(right.tolist())) < 2:
        return NotEstimable("one of the columns does not vary", len(left))
    return float(spearmanr(left, right).statistic)


def krippendorff_alpha(ratings: ArrayLike, *, metric: Metric) -> float | NotEstimable:
    """Return Krippendorff's alpha of any number of raters (Krippendorff 2011), from the matrix of coincidences.

    Args:
        ratings: Numbers ``(raters, items)``, NaN where a rater did not rate. An item with one
            rating only does not count. Meant for a scale of few levels: memory grows as items times levels.
        metric: What the distance of two ratings is: ``nominal`` any difference, ``ordinal`` the number of ratings
            between them, ``interval`` their squared difference.

    Returns:
        Alpha, at most 1; why there is none where no item was rated twice or all ratings are the same.
    """
    table = np.atleast_2d(np.asarray(ratings, dtype=np.float64))
    scale = np.unique(table[np.isfinite(table)])
    coincidences = _coincidences(table, scale)
    return _estimated(_alpha_of(coincidences[None], scale, metric=metric), int(coincidences.sum()))


def _estimated(values: Floats, n: int) -> float | NotEstimable:
    value = float(values[0])
    return NotEstimable("no item was rated twice, or all ratings are the same", n) if math.isnan(value) else value


def _complete(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    left, right = np.asarray(first), np.asarray(second)
    if left.shape != right.shape or left.ndim != 1:
        raise UserError("both raters must rate the same items", value=[left.shape, right.shape])
    if left.dtype.kind not in "biuf" or right.dtype.kind not in "biuf":
        return left, right
    both = np.isfinite(left) & np.isfinite(right)
    return left[both], right[both]


def _coincidences(ratings: Floats, scale: Floats) -> Floats:
    """Return how often two ratings of one item meet, ``(levels, levels)``.

    Each ordered pair of an item's ratings counts 1 / (ratings of the item - 1), so that an item counts as often as it
    was rated.
    """
    rater, item = np.nonzero(np.isfinite(ratings))
    counts = np.zeros((ratings.shape[1], len(scale)))
    np.add.at(counts, (item, np.searchsorted(scale, ratings[rater, item])), 1)
    raters = counts.sum(axis=1)
    weighted = counts / np.where(raters > 1, raters - 1, np.inf)[:, None]
    return np.asarray(counts.T @ weighted - np.diag(weighted.sum(axis=0)))


def _alpha_of(coincidences: Floats, scale: Floats, *, metric: Metric) -> Floats:
    """Return alpha for each matrix of a stack ``(draws, levels, levels)``; NaN where nothing could disagree."""
    used = coincidences.sum(axis=2)
    total = used.sum(axis=1)
    match metric:
        case "nominal":
            place = np.empty(0)
            distance = np.broadcast_to(1.0 - np.eye(len(scale)), coincidences.shape)
        case "ordinal":
            place = np.cumsum(used, axis=1) - used / 2
            distance = (place[:, :, None] - place[:, None, :]) ** 2
        case "interval":
            place = np.broadcast_to(scale, used.shape)
            distance = (place[:, :, None] - place[:, None, :]) ** 2
    observed = (coincidences * distance).sum(axis=(1, 2))
    expected = np.einsum("bi,bj,bij->b", used, used, distance)
    return 1 - _ratio(observed * (total - 1), expected)


def _alpha_of_tables(tables: Floats, scale: Floats, *, metric: Metric) -> Floats:
    return _alpha_of(tables + tables.transpose(0, 2, 1), scale, metric=metric)


def _kappa_of_tables(tables: Floats, scale: Floats, *, weights: Weights) -> Floats:
    difference = np.abs(scale[:, None] - scale[None, :])
    penalty = {"none": (difference > 0).astype(np.float64), "linear": difference, "quadratic": difference**2}[weights]
    rows, columns, total = tables.sum(axis=2), tables.sum(axis=1), tables.sum(axis=(1, 2))
    observed = np.einsum("bij,ij->b", tables, penalty)
    return 1 - _ratio(observed * total, np.einsum("bi,bj,ij->b", rows, columns, penalty))


def _spearman_of_tables(tables: Floats, scale: Floats) -> Floats:
    first, second, total = tables.sum(axis=2), tables.sum(axis=1), tables.sum(axis=(1, 2))
    rank, other = (np.cumsum(used, axis=1) - used / 2 - total[:, None] / 2 for used in (first, second))
    spread = np.sqrt((first * rank**2).sum(axis=1) * (second * other**2).sum(axis=1))
    return _ratio(np.einsum("bij,bi,bj->b", tables, rank, other), spread)


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure of agreement: of two columns of ratings, and of a stack of tables of how often which ratings meet."""

    of_ratings: Callable[[ArrayLike, ArrayLike], float | NotEstimable]
    of_tables: Callable[[Floats, Floats], Floats]


SPEARMAN = Measure(spearman, _spearman_of_tables)


def kappa_measure(weights: Weights) -> Measure:
    """Return Cohen's kappa with these weights as a measure."""
    return Measure(partial(cohen_kappa, weights=weights), partial(_kappa_of_tables, weights=weights))


def alpha_measure(metric: Metric) -> Measure:
    """Return Krippendorff's alpha of two raters with this metric as a measure."""

    def of_ratings(first: ArrayLike, second: ArrayLike) -> float | NotEstimable:
        return krippendorff_alpha(np.stack(_complete(first, second)), metric=metric)

    return Measure(of_ratings, partial(_alpha_of_tables, metric=metric))


def agreement_intervals(
    first: ArrayLike,
    second: ArrayLike,
    groups: Sequence[Hashable],
    generator: np.random.Generator,
    *,
    measures: Mapping[str, Measure],
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> dict[str, Interval | NotEstimable]:
    """Return measures of agreement of two raters with intervals over groups, all from the same resamples.

    Args:
        first: One rater's ratings as numbers, one an item.
        second: The other rater's, in the same order. An item with a NaN is left out (`n` counts the others).
        groups: Each item's group: conversation, prompt or person.
        generator: Source of the draws.
        measures: What to compute, by name: `SPEARMAN`, `kappa_measure(...)`, `alpha_measure(...)`.
        resamples: Number of draws.
        level: Confidence level.

    Raises:
        UserError: The lengths differ.
    """
    columns = np.stack([np.asarray(column, dtype=np.float64) for column in (first, second)], axis=1)
    if not np.isfinite(columns).all(axis=1).any():
        return dict.fromkeys(measures, NotEstimable("no item has both ratings", 0))
    grouped = group_rows(columns, groups)
    scale = np.unique(grouped.rows)
    if len(scale) <= MOST_LEVELS:
        draws = _drawn_tables(grouped, scale, generator, resamples, measures)
    else:
        draws = _drawn_rows(grouped, generator, resamples, measures)
    n = len(grouped.rows)
    results: dict[str, Interval | NotEstimable] = {}
    for name, measure in measures.items():
        estimate = measure.of_ratings(*grouped.rows.T)
        if isinstance(estimate, NotEstimable):
            results[name] = estimate
            continue
        results[name] = widened_percentiles(estimate, draws[name], n, grouped.groups, bounds=CORRELATION, level=level)
    return results


def _drawn_tables(
    grouped: Grouped,
    scale: Floats,
    generator: np.random.Generator,
    resamples: int,
    measures: Mapping[str, Measure],
) -> dict[str, Floats]:
    levels = len(scale)
    place = np.searchsorted(scale, grouped.rows)
    cells = grouped.codes * levels**2 + place[:, 0] * levels + place[:, 1]
    counts = np.bincount(cells, minlength=grouped.groups * levels**2).reshape(grouped.groups, levels**2)
    tables = resampled_sums(counts.astype(np.float64), generator, resamples).reshape(-1, levels, levels)
    return {name: measure.of_tables(tables, scale) for name, measure in measures.items()}


def _drawn_rows(
    grouped: Grouped,
    generator: np.random.Generator,
    resamples: int,
    measures: Mapping[str, Measure],
) -> dict[str, Floats]:
    draws: dict[str, list[float]] = {name: [] for name in measures}
    for rows in grouped.resamples(generator, resamples):
        for name, measure in measures.items():
            value = measure.of_ratings(*rows.T)
            draws[name].append(math.nan if isinstance(value, NotEstimable) else value)
    return {name: np.asarray(values) for name, values in draws.items()}
