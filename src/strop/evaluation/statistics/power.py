"""How many observations would settle what these leave open."""

from __future__ import annotations

import math

from strop.evaluation.statistics.intervals import POWER, Interval


def items_needed(interval: Interval, against: float, *, power: float = POWER) -> int | None:
    """Return about how many observations would tell the estimate from `against`, were the estimate true.

    The standard error is taken from the interval itself, so clustering and ties count as they did in the data; more
    groups of the same sizes are assumed. A two-sided z-test at the interval's level (statsmodels, whose one-tailed
    formula is given half the error; the other tail adds nothing at any size worth asking for).

    Args:
        interval: What was measured on `interval.n` observations.
        against: The value to be told from: 0.5 for a coin, a threshold, 0 for a difference.
        power: Chance of finding it, between 0 and 1.

    Returns:
        The number of observations in all; None where the estimate equals `against`, or the interval is unbounded or has
        no length, so that no number follows.
    """
    from scipy.stats import norm
    from statsmodels.stats.power import normal_sample_size_one_tail

    spread = interval.half_width / float(norm.ppf((1 + interval.level) / 2)) * math.sqrt(interval.n)
    effect = abs(interval.estimate - against)
    if not (0 < spread < math.inf and effect > 0):
        return None
    needed = normal_sample_size_one_tail(effect, power, (1 - interval.level) / 2, std_null=spread)
    return max(2, math.ceil(float(needed)))
