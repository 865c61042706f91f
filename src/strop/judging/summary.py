"""What ratings and comparisons of a file come to: shares, means, flips, leans and failures, each with its interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from strop.evaluation.statistics import SHARE, Interval, cluster_bootstrap
from strop.judging.expected import ExpectedRating
from strop.judging.judge import Comparison, OrderVerdict
from strop.judging.parsing import ParseFailure
from strop.judging.rating import Rating
from strop.judging.rubric import SCALE, Rubric
from strop.runs.seeds import derive_seed

FEWEST_FOR_CORRELATION = 10
_SHOWN_FIRST = {"first": 1.0, "tie": 0.5, "second": 0.0}
_RANGE = (float(SCALE[0]), float(SCALE[-1]))


@dataclass(frozen=True, slots=True)
class RatingSummary:
    """Ratings of one file by one judge; a figure without data is None.

    Attributes:
        n: Responses.
        complete: Responses with a rating for every criterion.
        means: Mean rating by criterion, over the responses that have it.
        mean: Mean of the weighted means, over the complete responses.
        gate_failed: Share of responses that fail a gate, over those where it is known.
        gate_unknown: Responses where it is not known.
        failures: Share of ratings that are missing.
        failure_kinds: How often each kind of failure occurred.
        correlation: Mean rank correlation between two criteria: near 1 the judge sees one property, not several (halo).
    """

    n: int
    complete: int
    means: Mapping[str, Interval | None]
    mean: Interval | None
    gate_failed: Interval | None
    gate_unknown: int
    failures: Interval | None
    failure_kinds: Mapping[str, int]
    correlation: float | None

    def to_row(self) -> dict[str, Any]:
        """Return the summary as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ExpectedSummary:
    """Expected ratings of one file by one model.

    Attributes:
        n: Responses.
        means: Mean expected rating by criterion.
        masses: Mean probability of the scale's five tokens among the whole vocabulary, by criterion: where it is
            small, the model was about to say something else.
        mean: Mean of the weighted means.
    """

    n: int
    means: Mapping[str, Interval | None]
    masses: Mapping[str, Interval | None]
    mean: Interval | None

    def to_row(self) -> dict[str, Any]:
        """Return the summary as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ComparisonSummary:
    """Comparisons of one file by one judge; a figure without data is None.

    Attributes:
        n: Pairs.
        first: Pairs in which the first response is better in both orders.
        second: Pairs in which the second is.
        ties: Pairs with a tie, by agreement or because the orders disagree.
        failed: Pairs without a verdict.
        first_share: Wins of the first, ties as halves, over the pairs with a verdict.
        flips: Share of pairs with a verdict whose orders disagree.
        shown_first: Share of single verdicts for the response that was shown first, ties as halves; .5 is no lean.
        failures: Share of single replies without a verdict.
        failure_kinds: How often each kind of failure occurred.
    """

    n: int
    first: int
    second: int
    ties: int
    failed: int
    first_share: Interval | None
    flips: Interval | None
    shown_first: Interval | None
    failures: Interval | None
    failure_kinds: Mapping[str, int]

    def to_row(self) -> dict[str, Any]:
        """Return the summary as JSON."""
        return asdict(self)


def summarise_ratings(
    ratings: Sequence[Rating], *, rubric: Rubric, groups: Sequence[Hashable], seed: int = 0
) -> RatingSummary:
    """Summarise ratings.

    Args:
        ratings: One for each response.
        rubric: What was rated.
        groups: Each response's group, as its prompt; intervals resample groups.
        seed: Of the intervals.
    """
    table = {key: [_known(rating.values[key]) for rating in ratings] for key in rubric.keys}
    failures = [failure for rating in ratings for failure in rating.failures.values()]
    gates = [{"failed": 1.0, "passed": 0.0}.get(rating.gate, np.nan) for rating in ratings]
    missing = [len(rating.failures) / len(rating.values) for rating in ratings]
    means = [np.nan if rating.mean is None else rating.mean for rating in ratings]
    return RatingSummary(
        n=len(ratings),
        complete=sum(rating.mean is not None for rating in ratings),
        means={key: _mean(key, column, groups, _RANGE, seed) for key, column in table.items()},
        mean=_mean("mean", means, groups, _RANGE, seed),
        gate_failed=_mean("gate", gates, groups, SHARE, seed),
        gate_unknown=sum(rating.gate == "unknown" for rating in ratings),
        failures=_mean("failures", missing, groups, SHARE, seed),
        failure_kinds=dict(Counter(failure.kind for failure in failures).most_common()),
        correlation=_correlation(list(table.values())),
    )


def summarise_expected(
    ratings: Sequence[ExpectedRating], *, rubric: Rubric, groups: Sequence[Hashable], seed: int = 0
) -> ExpectedSummary:
    """Summarise expected ratings.

    Args:
        ratings: One for each response.
        rubric: What was rated.
        groups: Each response's group, as its prompt; intervals resample groups.
        seed: Of the intervals.
    """
    columns = {key: [rating.values[key] for rating in ratings] for key in rubric.keys}
    return ExpectedSummary(
        n=len(ratings),
        means={k: _mean(k, [each.value for each in column], groups, _RANGE, seed) for k, column in columns.items()},
        masses={k: _mean(k, [each.mass for each in column], groups, SHARE, seed) for k, column in columns.items()},
        mean=_mean("mean", [rating.mean for rating in ratings], groups, _RANGE, seed),
    )


def summarise_comparisons(
    comparisons: Sequence[Comparison], *, groups: Sequence[Hashable], seed: int = 0
) -> ComparisonSummary:
    """Summarise comparisons.

    Args:
        comparisons: One for each pair.
        groups: Each pair's group, as its prompt; intervals resample groups.
        seed: Of the intervals.
    """
    verdicts = Counter(comparison.verdict for comparison in comparisons)
    orders = [(comparison.forward, comparison.backward) for comparison in comparisons]
    kinds = Counter(reply.kind for order in orders for reply in order if isinstance(reply, ParseFailure))
    shares = [np.nan if each.verdict is None else _SHOWN_FIRST[each.verdict] for each in comparisons]
    flips = [np.nan if comparison.failed else float(comparison.flipped) for comparison in comparisons]
    failures = [sum(isinstance(reply, ParseFailure) for reply in order) / 2 for order in orders]
    return ComparisonSummary(
        n=len(comparisons),
        first=verdicts["first"],
        second=verdicts["second"],
        ties=verdicts["tie"],
        failed=verdicts[None],
        first_share=_mean("first", shares, groups, SHARE, seed),
        flips=_mean("flips", flips, groups, SHARE, seed),
        shown_first=_mean("shown first", [_lean(*order) for order in orders], groups, SHARE, seed),
        failures=_mean("failures", failures, groups, SHARE, seed),
        failure_kinds=dict(kinds.most_common()),
    )


def _lean(forward: OrderVerdict, backward: OrderVerdict) -> float:
    """Return how much of two verdicts goes to the response shown first; NaN where one is missing."""
    if isinstance(forward, ParseFailure) or isinstance(backward, ParseFailure):
        return float("nan")
    return (_SHOWN_FIRST[forward] + 1 - _SHOWN_FIRST[backward]) / 2


def _known(value: int | ParseFailure) -> float:
    return float("nan") if isinstance(value, ParseFailure) else float(value)


def _mean(
    name: str, values: Sequence[float], groups: Sequence[Hashable], bounds: tuple[float, float], seed: int
) -> Interval | None:
    if not np.isfinite(values).any():
        return None
    generator = np.random.default_rng(derive_seed(seed, "summary", name))
    return cluster_bootstrap(values, groups, generator, bounds=bounds)


def _correlation(columns: Sequence[Sequence[float]]) -> float | None:
    """Return the mean Spearman correlation over pairs of criteria in which both vary."""
    from scipy.stats import spearmanr

    found: list[float] = []
    for first, second in combinations(np.asarray(columns, dtype=np.float64), 2):
        both = np.isfinite(first) & np.isfinite(second)
        left, right = first[both], second[both]
        if both.sum() >= FEWEST_FOR_CORRELATION and np.ptp(left) and np.ptp(right):
            found.append(float(spearmanr(left, right).statistic))
    return sum(found) / len(found) if found else None
