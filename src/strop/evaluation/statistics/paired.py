"""Two columns of outcomes on the same items: exact tests, and the difference with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from strop.errors import UserError
from strop.evaluation.statistics.crossed import common_outcomes
from strop.evaluation.statistics.intervals import LEVEL, POWER, Interval


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

    (left, right), left_out = common_outcomes([first, second])
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


@dataclass(frozen=True, slots=True)
class SignTest:
    """Wins against losses, ties apart.

    Attributes:
        wins: Pairs that the first side won.
        losses: Pairs that it lost.
        ties: Pairs that nobody won; they take no part in the test.
        share: Wins among the decided pairs with the exact interval (Clopper & Pearson 1934), which leaves out 1/2 just
            where the test rejects; None where no pair was decided.
        p_value: Exact two-sided sign test; 1 where no pair was decided.
    """

    wins: int
    losses: int
    ties: int
    share: Interval | None
    p_value: float

    @property
    def n(self) -> int:
        """All pairs, ties among them."""
        return self.wins + self.losses + self.ties


def sign_test(wins: int, losses: int, *, ties: int = 0, level: float = LEVEL) -> SignTest:
    """Test whether wins and losses are equally likely (exact sign test); pairs must be independent of each other.

    Args:
        wins: Pairs won, 0 or more.
        losses: Pairs lost, 0 or more.
        ties: Pairs without a winner, reported and not tested.
        level: Confidence level of the interval.

    Raises:
        UserError: A count is negative.
    """
    from scipy.stats import binomtest

    if min(wins, losses, ties) < 0:
        raise UserError("wins, losses and ties are counts", value=(wins, losses, ties))
    decided = wins + losses
    if not decided:
        return SignTest(wins, losses, ties, None, 1.0)
    test = binomtest(wins, decided, 0.5)
    exact = test.proportion_ci(level, method="exact")
    share = Interval(wins / decided, float(exact.low), float(exact.high), decided, level)
    return SignTest(wins, losses, ties, share, float(test.pvalue))
