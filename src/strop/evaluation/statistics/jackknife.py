"""The jackknife over groups, for statistics of which a bootstrap is biased: what counts different things."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from strop.evaluation.statistics.intervals import LEVEL, Interval


def jackknife(estimate: float, without: Sequence[float], *, n: int, level: float = LEVEL) -> Interval:
    """Return an estimate with its jackknife interval (Tukey 1958), on Student's t with one degree less than groups.

    Args:
        estimate: The statistic of all rows.
        without: The statistic with each group left out in turn.
        n: Rows.
        level: Confidence level.

    Returns:
        The interval; without ends where there are fewer than two groups.
    """
    from scipy.stats import t

    groups = len(without)
    if groups < 2:
        return Interval(estimate, -math.inf, math.inf, n, level, groups)
    middle = fmean(without)
    error = math.sqrt((groups - 1) / groups * sum((value - middle) ** 2 for value in without))
    half = float(t.ppf((1 + level) / 2, groups - 1)) * error
    return Interval(estimate, estimate - half, estimate + half, n, level, groups)
