"""How far judges' ratings agree with people's: leniency, rank correlation, agreement on pairs, kappa and alpha.

Two tables of ratings hold one row a response: columns that name it (its conversation, the model that wrote it) and one
column an attribute. Everything is computed on the ratings that both tables hold, and every interval resamples
conversations, because responses to one conversation are judged alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np

from strop.errors import UserError
from strop.evaluation.statistics import (
    RESAMPLES,
    SHARE,
    SPEARMAN,
    UNBOUNDED,
    Interval,
    NotEstimable,
    agreement_intervals,
    alpha_measure,
    cluster_bootstrap,
    kappa_measure,
)
from strop.evaluation.statistics.clusters import Floats
from strop.judging.rating_tables import Key, RatingTable

SMALLEST_GAP = 0.5
_CLOSE = 1e-9
_MEASURES = {"spearman": SPEARMAN, "kappa": kappa_measure("quadratic"), "alpha": alpha_measure("ordinal")}

Outcome = Interval | NotEstimable


@dataclass(frozen=True, slots=True)
class AttributeAgreement:
    """Agreement on one attribute.

    Attributes:
        attribute: Its column.
        lean: Mean of judge minus human; above 0 the judge is lenient.
        spearman: Rank correlation over responses.
        kappa: Cohen's kappa with quadratic weights.
        alpha: Krippendorff's alpha, ordinal.
        n: Responses with both ratings.
        left_out: Shared responses without one of them.
    """

    attribute: str
    lean: Outcome
    spearman: Outcome
    kappa: Outcome
    alpha: Outcome
    n: int
    left_out: int


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """Whether the judge prefers the response that people prefer, over pairs of responses to one conversation.

    A response's score is the mean of its attributes. Pairs count in which the people's scores differ by `gap` or more.

    Attributes:
        gap: Smallest difference of the people's scores.
        agreement: Share of pairs in which the judge's scores are ordered as theirs; equal judge's scores count half.
        ties: Share of pairs to which the judge gives equal scores.
        pairs: How many pairs there are.
        left_out: Shared responses that lack a rating of one attribute, and so have no score.
    """

    gap: float
    agreement: Outcome
    ties: Outcome
    pairs: int
    left_out: int


@dataclass(frozen=True, slots=True)
class JudgeAgreement:
    """One judge against the people's ratings.

    Attributes:
        judge: The judge's name.
        lean: Mean of judge minus human over all responses and attributes.
        pairs: Agreement on pairs of responses to one conversation.
        attributes: Agreement on each attribute.
        responses: Responses in both tables.
        conversations: Conversations that they belong to.
        only_human: Responses that only the people rated.
        only_judge: Responses that only the judge rated.
        ranges: Smallest and largest rating of the people and of the judge, on the shared responses; None where one
            of them gave none.
    """

    judge: str
    lean: Outcome
    pairs: PairAgreement
    attributes: tuple[AttributeAgreement, ...]
    responses: int
    conversations: int
    only_human: int
    only_judge: int
    ranges: tuple[tuple[float, float], tuple[float, float]] | None


class _Joined(NamedTuple):
    human: Floats
    judge: Floats
    conversations: list[str]


def judge_agreement(
    human: RatingTable,
    judge: RatingTable,
    generator: np.random.Generator,
    *,
    gap: float = SMALLEST_GAP,
    resamples: int = RESAMPLES,
) -> JudgeAgreement:
    """Compare a judge's ratings with people's.

    Args:
        human: The people's ratings, one row a response; several experts' are averaged beforehand.
        judge: The judge's, with the same attributes.
        generator: Source of the bootstrap draws.
        gap: Smallest difference of the people's mean scores at which a pair of responses counts, above 0.
        resamples: Number of bootstrap draws.

    Raises:
        UserError: The tables share no response, differ in their attributes, or the gap is not above 0.
    """
    if not gap > 0:
        raise UserError("the gap must be above 0", value=gap, why="between equal scores nobody is preferred")
    if human.attributes != judge.attributes:
        raise UserError("the tables hold different attributes", value=[human.attributes, judge.attributes])
    shared = [key for key in human.ratings if key in judge.ratings]
    if not shared:
        raise UserError(
            f"{judge.name} and {human.name} share no response",
            value=[_example(human.ratings), _example(judge.ratings)],
            fix="name the columns that identify a response with --by and --item",
        )
    joined = _Joined(_stacked(human, shared), _stacked(judge, shared), [key.conversation for key in shared])
    return JudgeAgreement(
        judge=judge.name,
        lean=_lean(joined.judge - joined.human, joined.conversations, generator, resamples),
        pairs=_on_pairs(joined, gap, generator, resamples),
        attributes=tuple(
            _on_attribute(name, joined, column, generator, resamples) for column, name in enumerate(human.attributes)
        ),
        responses=len(shared),
        conversations=len(set(joined.conversations)),
        only_human=len(human.ratings) - len(shared),
        only_judge=len(judge.ratings) - len(shared),
        ranges=_ranges(joined),
    )


def _stacked(table: RatingTable, keys: Sequence[Key]) -> Floats:
    return np.array([table.ratings[key] for key in keys], dtype=np.float64)


def _example(ratings: Mapping[Key, Sequence[float]]) -> str:
    return next((str(key) for key in ratings), "no rows")


def _ranges(joined: _Joined) -> tuple[tuple[float, float], tuple[float, float]] | None:
    human, judge = (ratings[np.isfinite(ratings)] for ratings in (joined.human, joined.judge))
    if not (human.size and judge.size):
        return None
    return (float(human.min()), float(human.max())), (float(judge.min()), float(judge.max()))


def _lean(differences: Floats, conversations: Sequence[str], generator: np.random.Generator, resamples: int) -> Outcome:
    """Return the mean difference over all ratings with its interval; rows are responses, columns attributes."""
    flat = differences.reshape(-1)
    if not np.isfinite(flat).any():
        return NotEstimable("no response has both ratings", 0)
    groups = np.repeat(conversations, differences.size // len(conversations)).tolist()
    return cluster_bootstrap(flat, groups, generator, bounds=UNBOUNDED, resamples=resamples)


def _on_attribute(
    name: str, joined: _Joined, column: int, generator: np.random.Generator, resamples: int
) -> AttributeAgreement:
    human, judge = joined.human[:, column], joined.judge[:, column]
    n = int((np.isfinite(human) & np.isfinite(judge)).sum())
    lean = _lean(judge - human, joined.conversations, generator, resamples)
    found = agreement_intervals(human, judge, joined.conversations, generator, measures=_MEASURES, resamples=resamples)
    return AttributeAgreement(attribute=name, lean=lean, **found, n=n, left_out=len(human) - n)


def _on_pairs(joined: _Joined, gap: float, generator: np.random.Generator, resamples: int) -> PairAgreement:
    human, judge = joined.human.mean(axis=1), joined.judge.mean(axis=1)
    scored = np.isfinite(human) & np.isfinite(judge)
    members: dict[str, list[int]] = {}
    for row in np.flatnonzero(scored).tolist():
        members.setdefault(joined.conversations[row], []).append(row)
    pairs = [
        (conversation, first, second)
        for conversation, rows in members.items()
        for first, second in combinations(rows, 2)
        if abs(human[first] - human[second]) >= gap - _CLOSE
    ]
    left_out = int((~scored).sum())
    if not pairs:
        nothing = NotEstimable(f"no pair of responses to one conversation differs by {gap:g}", 0)
        return PairAgreement(gap, nothing, nothing, 0, left_out)
    conversations, first, second = zip(*pairs, strict=True)
    better = np.sign(human[list(first)] - human[list(second)])
    preferred = judge[list(first)] - judge[list(second)]
    preferred = np.where(np.abs(preferred) < _CLOSE, 0.0, np.sign(preferred))
    agreement, ties = (
        cluster_bootstrap(values, conversations, generator, bounds=SHARE, resamples=resamples)
        for values in ((1 + better * preferred) / 2, preferred == 0)
    )
    return PairAgreement(gap, agreement, ties, len(pairs), left_out)
