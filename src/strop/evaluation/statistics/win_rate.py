"""Win rates, raw and with the judge's liking for length taken out."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from strop.errors import UserError
from strop.evaluation.statistics.clusters import (
    SHARE,
    Floats,
    Grouped,
    cluster_bootstrap,
    group_rows,
    group_weights,
    widened_percentiles,
)
from strop.evaluation.statistics.intervals import LEVEL, RESAMPLES, Interval, NotEstimable

SLOPE_PENALTY = 0.01
"""Precision of a normal prior on the length slope (standard deviation 10 on the logit scale): next to no pull, but a
judge that always takes the longer response then has a finite slope, and a win rate."""
_STEPS = 100
_LONGEST_STEP = 2.0


@dataclass(frozen=True, slots=True)
class WinRate:
    """How often the first contestant wins, ties counted half.

    Attributes:
        raw: Share of wins with its interval over groups.
        length_controlled: The share at equal length, or why there is none.
        slope: Log-odds of winning for one unit of tanh(length difference / its root mean square); None without a curve.
        n: Duels with an outcome and both lengths.
        left_out: Duels without.
        ties: Duels that nobody won.
        longer: Share of duels in which the first contestant's response is the longer one, equal lengths counted half.
        one_sided: The same contestant is never the shorter one, so that equal length lies at the edge of the data and
            the controlled rate rests on the curve's shape.
    """

    raw: Interval
    length_controlled: Interval | NotEstimable
    slope: float | None
    n: int
    left_out: int
    ties: int
    longer: float
    one_sided: bool


def length_controlled_win_rate(
    outcomes: ArrayLike,
    length_differences: ArrayLike,
    groups: Sequence[Hashable],
    generator: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> WinRate:
    """Return the first contestant's win rate, raw and at equal length.

    A logistic curve of the outcome on a constant and tanh(length difference / its root mean square) is read off at
    length difference zero (Dubois et al. 2024, AlpacaEval 2). We differ in three points: ties are outcomes of 1/2 and
    not left to chance; the scale is the root mean square and not the standard deviation, which for a contestant that
    always pads measures the spread of the padding and not its size; and there is no term for the difficulty of a
    prompt, which needs other contestants' results on the same prompts.

    Exchanging the contestants (1 - outcomes, - differences) gives exactly 1 - rate, and the order of the duels changes
    nothing.

    Args:
        outcomes: 1 where the first contestant won, 0 where it lost, 1/2 for a tie, NaN where the judge failed.
        length_differences: Length of the first contestant's response minus the other's, in any unit.
        groups: Each duel's prompt or conversation.
        generator: Source of the draws.
        resamples: Number of draws.
        level: Confidence level.

    Raises:
        UserError: The lengths differ, an outcome lies outside 0 to 1, or no duel is complete.
    """
    scores, differences = (np.asarray(column, dtype=np.float64) for column in (outcomes, length_differences))
    if scores.shape != differences.shape or scores.ndim != 1:
        raise UserError("every outcome needs its length difference", value=[scores.shape, differences.shape])
    if np.any((scores < 0) | (scores > 1)):
        raise UserError("an outcome is 0, 1/2 or 1", value=[float(np.nanmin(scores)), float(np.nanmax(scores))])
    known = np.isfinite(scores) & np.isfinite(differences)
    kept = [group for group, complete in zip(groups, known.tolist(), strict=True) if complete]
    forward, backward = (
        group_rows(np.stack([sign * (2 * scores[known] - 1), sign * differences[known]], axis=1), kept)
        for sign in (1, -1)
    )
    # Both contestants' views are computed from the same one of the two: swapping is then exact, to the last bit.
    order = [tuple(view.rows.ravel().tolist()) for view in (forward, backward)]
    turned = order[1] < order[0]
    shape = _centred if order[0] == order[1] else _rounded
    rate = _win_rate(backward if turned else forward, generator, resamples, level, shape)
    return replace(_mirrored(rate) if turned else rate, left_out=int((~known).sum()))


def _win_rate(
    duels: Grouped,
    generator: np.random.Generator,
    resamples: int,
    level: float,
    shape: Callable[[Interval], Interval],
) -> WinRate:
    signs, differences = duels.rows.T
    raw = cluster_bootstrap(
        (signs + 1) / 2, duels.codes.tolist(), generator, bounds=SHARE, resamples=resamples, level=level
    )
    slope: float | None = None
    controlled: Interval | NotEstimable = raw
    if np.any(differences != 0):
        controlled, slope = _controlled(duels, generator, resamples, level)
    return WinRate(
        raw=shape(raw),
        length_controlled=controlled if isinstance(controlled, NotEstimable) else shape(controlled),
        slope=slope,
        n=len(signs),
        left_out=0,
        ties=int((signs == 0).sum()),
        longer=_exact((1 + float(np.sign(differences).mean())) / 2),
        one_sided=bool(np.any(differences != 0) and abs(np.sign(differences[differences != 0]).mean()) == 1),
    )


def _controlled(
    duels: Grouped, generator: np.random.Generator, resamples: int, level: float
) -> tuple[Interval | NotEstimable, float | None]:
    """Fit the curve and read it off at equal length, on the data and on each resample of groups."""
    signs, differences = duels.rows.T
    n = len(signs)
    if np.all(signs == 1) or np.all(signs == -1):
        return NotEstimable("one contestant won every duel, so that nothing tells length from quality", n), None
    if np.all(differences == differences[0]):
        return NotEstimable("the length difference is the same in every duel", n), None
    lengths = np.tanh(differences / math.sqrt(float(np.mean(differences * differences))))
    constant, slope = fit_length_curve(signs, lengths, np.ones((1, n)))
    draws = [
        fit_length_curve(signs, lengths, weights[:, duels.codes])[0]
        for weights in group_weights(duels.groups, generator, resamples, rows=n)
    ]
    rates = _logistic(np.concatenate(draws))
    estimate = float(_logistic(constant)[0])
    interval = widened_percentiles(estimate, rates, n, duels.groups, bounds=SHARE, level=level)
    return interval, float(slope[0])


def fit_length_curve(signs: Floats, lengths: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Fit P(win) = logistic(constant + slope x length) for many weightings of the duels at once.

    Newton's method on the weighted log-likelihood with `SLOPE_PENALTY` on the slope. One fit is what statsmodels'
    binomial model does (a test compares them); a bootstrap needs thousands, and here they are one set of matrix sums.

    Args:
        signs: 1 for a win, -1 for a loss, 0 for a tie, ``(duels,)``, or anything between.
        lengths: Length regressor ``(duels,)``.
        weights: Weight of each duel in each fit, ``(fits, duels)``, 0 or more.

    Returns:
        Constants and slopes, ``(fits,)`` each; the constant is infinite where a fit holds nothing but wins or losses.
    """
    constant, slope = np.zeros(len(weights)), np.zeros(len(weights))
    decided = np.abs(weights @ signs) == weights.sum(axis=1)
    for _ in range(_STEPS):
        # In tanh form everything is odd or even in the sign of the outcomes: swapping contestants is exact.
        lean = np.tanh((constant[:, None] + slope[:, None] * lengths) / 2)
        residual, curvature = weights * (signs - lean) / 2, weights * (1 - lean * lean) / 4
        gradient = (residual.sum(axis=1), residual @ lengths - SLOPE_PENALTY * slope)
        a, b, c = curvature.sum(axis=1), curvature @ lengths, curvature @ (lengths * lengths) + SLOPE_PENALTY
        determinant = np.maximum(a * c - b * b, np.finfo(np.float64).tiny)
        step = np.stack([c * gradient[0] - b * gradient[1], a * gradient[1] - b * gradient[0]]) / determinant
        step[:, decided] = 0.0
        longest = np.abs(step).max(axis=0)
        step *= np.minimum(1.0, _LONGEST_STEP / np.maximum(longest, _LONGEST_STEP))
        constant, slope = constant + step[0], slope + step[1]
        if not np.any(longest > 1e-9):
            break
    return np.where(decided, np.copysign(np.inf, weights @ signs), constant), slope


def _logistic(constants: Floats) -> Floats:
    return (1 + np.tanh(constants / 2)) / 2


def _exact(share: float) -> float:
    """Return `share` rounded so that 1 - (1 - share) is share again."""
    return 1 - (1 - share)


def _rounded(interval: Interval) -> Interval:
    return replace(interval, estimate=_exact(interval.estimate), low=_exact(interval.low), high=_exact(interval.high))


def _centred(interval: Interval) -> Interval:
    """Return the interval of data that read the same from both sides: symmetric about 1/2."""
    high = 0.5 + interval.half_width
    return replace(interval, estimate=0.5, low=1 - high, high=high)


def _turned(interval: Interval) -> Interval:
    return replace(interval, estimate=1 - interval.estimate, low=1 - interval.high, high=1 - interval.low)


def _mirrored(rate: WinRate) -> WinRate:
    """Return the same duels as the other contestant sees them."""
    controlled = rate.length_controlled
    return replace(
        rate,
        raw=_turned(rate.raw),
        length_controlled=controlled if isinstance(controlled, NotEstimable) else _turned(controlled),
        longer=1 - rate.longer,
    )
