"""An estimate with its interval and its n, the reason where there is none, and the interval of a share."""

from __future__ import annotations

import math
from dataclasses import dataclass

from strop.errors import UserError

LEVEL = 0.95
RESAMPLES = 2_000
POWER = 0.8


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval and the number of observations behind it.

    Attributes:
        estimate: The estimate.
        low: Lower end; minus infinity where the data do not bound it.
        high: Upper end; infinity where the data do not bound it.
        n: Observations.
        level: Confidence level.
        groups: Groups of dependent observations that were resampled; None where each observation stands for itself.
    """

    estimate: float
    low: float
    high: float
    n: int
    level: float = LEVEL
    groups: int | None = None

    @property
    def half_width(self) -> float:
        """Half the length of the interval."""
        return (self.high - self.low) / 2

    def excludes(self, value: float) -> bool:
        """Say whether `value` lies outside the interval."""
        return not self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class NotEstimable:
    """Why the data give no estimate; it stands where an `Interval` would, so that no NaN ever does.

    Attributes:
        reason: What is missing, one clause.
        n: Observations.
    """

    reason: str
    n: int


def wilson(successes: float, n: float, *, level: float = LEVEL) -> Interval:
    """Return a share with its Wilson score interval (Wilson 1927), which stays inside 0 and 1.

    Args:
        successes: Number of successes, 0 to `n`; fractions are allowed (an effective count of clustered data).
        n: Number of trials, above 0.
        level: Confidence level, between 0 and 1.

    Raises:
        UserError: There are no trials, or more successes than trials.
    """
    from statsmodels.stats.proportion import proportion_confint

    if not 0 <= successes <= n or n <= 0:
        raise UserError("a share needs trials, and no more successes than trials", value=f"{successes} of {n}")
    low, high = proportion_confint(successes, n, alpha=1 - level, method="wilson")
    # Rounding must move neither end past the estimate.
    share = successes / n
    return Interval(share, min(share, max(0.0, float(low))), max(share, min(1.0, float(high))), math.floor(n), level)
