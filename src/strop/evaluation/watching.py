"""A measure beside its limit: broken where it lies beyond the limit and its interval shows that anything has moved.

A handful of rows thus raises no alarm by chance. `distinct_ratio` and `ratio_of_sums` compare what a model writes with
what it wrote before.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from strop.evaluation.statistics import UNBOUNDED, Interval, cluster_bootstrap, jackknife
from strop.evaluation.surface import distinct_share

if TYPE_CHECKING:
    import numpy as np

Runs = Sequence[Hashable]


@dataclass(frozen=True, slots=True)
class Watched:
    """One measure beside its limit.

    Attributes:
        measure: The name of the limit.
        interval: The measure in the limit's unit, with its interval over groups.
        limit: The limit; None where it is switched off.
        broken: Whether the estimate lies beyond the limit and the interval shows that anything has moved at all.
        told: The measure in words.
    """

    measure: str
    interval: Interval
    limit: float | None
    broken: bool
    told: str

    def to_row(self) -> dict[str, Any]:
        """Return the measure as JSON."""
        found = self.interval
        return {
            "measure": self.measure,
            "value": found.estimate,
            "low": _finite(found.low),
            "high": _finite(found.high),
            "n": found.n,
            "limit": self.limit,
            "broken": self.broken,
            "told": self.told,
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def beside_limit(
    measure: str, interval: Interval, limit: float | None, *, unmoved: float, told: str, below: bool = False
) -> Watched:
    """Hold a measure against its limit.

    Args:
        measure: The name of the limit.
        interval: The measure.
        limit: The limit; None never breaks.
        unmoved: What the measure is where nothing has changed: 1 for a ratio, 0 for a difference.
        told: A sentence with ``{value}``.
        below: Whether falling below the limit breaks it, in place of rising above.
    """
    value = interval.estimate
    beyond = limit is not None and (value < limit if below else value > limit)
    text = told.format(value=value)
    if limit is not None:
        text += f" (limit {limit:g})"
    return Watched(measure, interval, limit, beyond and interval.excludes(unmoved), text)


def ratio_of_sums(
    groups: Sequence[Hashable],
    above: Sequence[float],
    below: Sequence[float],
    generator: np.random.Generator,
    *,
    nothing: float,
) -> Interval:
    """Return sum(above) / sum(below) with its bootstrap interval over groups.

    Args:
        groups: Each row's group.
        above: The rows' share of the sum above.
        below: The rows' share of the sum below, which counts as at least 1.
        generator: Source of the draws.
        nothing: The ratio where both sums are 0.
    """
    import numpy

    def quotient(rows: np.ndarray[Any, np.dtype[np.float64]]) -> float:
        return float(rows[:, 0].sum() / max(rows[:, 1].sum(), 1.0)) if rows.any() else nothing

    table = numpy.asarray([above, below], dtype=numpy.float64).T
    return cluster_bootstrap(table, groups, generator, statistic=quotient, bounds=UNBOUNDED)


def distinct_ratio(now: Sequence[tuple[Hashable, Runs]], start: Sequence[tuple[Hashable, Runs]]) -> Interval:
    """Return how varied one set of texts is over another, by `distinct_share`, with its jackknife interval over groups.

    A bootstrap draws a group twice, whose runs are then no longer distinct: it finds less variety than there is.

    Args:
        now: Group and runs of words of each text.
        start: The same of the texts before, of the same groups.
    """
    estimate = distinct_share(_runs(now)) / distinct_share(_runs(start))
    order = list(dict.fromkeys(group for group, _ in now))
    without = zip(_shares_without(now, order), _shares_without(start, order), strict=True)
    return jackknife(estimate, [one / other for one, other in without], n=len(now))


def _runs(texts: Sequence[tuple[Hashable, Runs]]) -> list[Hashable]:
    return [run for _, runs in texts for run in runs]


def _shares_without(texts: Sequence[tuple[Hashable, Runs]], order: Sequence[Hashable]) -> list[float]:
    """Return the share of different runs with each group left out in turn."""
    groups: dict[Hashable, Counter[Hashable]] = {group: Counter() for group in order}
    for group, runs in texts:
        groups[group].update(runs)
    counts: Counter[Hashable] = sum(groups.values(), Counter())
    total = counts.total()
    shares = []
    for own in groups.values():
        gone = sum(counts[run] == count for run, count in own.items())
        left = total - own.total()
        shares.append((len(counts) - gone) / left if left else 1.0)
    return shares
