"""The collapse alarm: a round of self-play held against the first one, on the same cards, with intervals over cards."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from strop.errors import Stopped, UserError
from strop.evaluation.statistics import (
    UNBOUNDED,
    Interval,
    cluster_bootstrap,
    jackknife,
    paired_cluster_difference,
)
from strop.evaluation.surface import word_pairs, words_of
from strop.evaluation.watching import Watched, beside_limit, distinct_ratio
from strop.methods.selfplay.monitors import CollapseLimits, entropy, illness_of
from strop.methods.selfplay.session_record import CUT, KEPT, SessionRecord

if TYPE_CHECKING:
    import numpy as np

    from strop.models.scoring import TokenScores


@dataclass(frozen=True, slots=True)
class Expected:
    """How likely what came of a round's sessions is to the model that held them.

    Attributes:
        scores: Log-probabilities of each item.
        cards: The card of each item.
    """

    scores: Sequence[TokenScores]
    cards: Sequence[str]


def watched(
    now: Sequence[SessionRecord],
    first: Sequence[SessionRecord],
    limits: CollapseLimits,
    generator: np.random.Generator,
    *,
    expected: tuple[Expected, Expected] | None = None,
) -> list[Watched]:
    """Hold a round against the first one.

    Sessions are compared by id, card and pass; those that only one round has are left out. A limit is broken where the
    estimate lies beyond it and the interval excludes no change at all. What was never there (no named illness in the
    first round, no turn) cannot fall and is not watched.

    Args:
        now: Sessions of the round.
        first: Sessions of the first round, or of the base.
        limits: The limits.
        generator: Source of the bootstrap's draws.
        expected: The perplexity's items of the round and of the first one; None where they were not measured.

    Raises:
        UserError: The rounds share no session.
    """
    pairs = _paired(now, first)
    found = [
        _rise("failed", pairs, _failed, limits.failed, generator, "sessions that failed: {value:+.1%}"),
        _rise("unnamed", pairs, _unnamed, limits.unnamed, generator, "diagnoses that are no illness: {value:+.1%}"),
        *_discarded(pairs, limits.discarded, generator),
        *_entropy(pairs, limits.illness_entropy),
        *_variety("distinct_2_turns", pairs, _turns, limits.distinct_2_turns, "turns"),
        *_variety("distinct_2_plans", pairs, _plans, limits.distinct_2_plans, "plans"),
    ]
    if expected is not None:
        ratio = _perplexity_ratio(*expected, generator)
        told = "perplexity: {value:.2f} times the first round's"
        found.append(beside_limit("perplexity", ratio, limits.perplexity, unmoved=1.0, told=told))
    return found


def stop_on_collapse(found: Sequence[Watched], *, iteration: int) -> None:
    """Stop the run where a limit is broken.

    Args:
        found: What `watched` says.
        iteration: The round that was looked at.

    Raises:
        Stopped: A limit is broken. All rounds so far are kept.
    """
    broken = [one for one in found if one.broken]
    if broken:
        raise Stopped(
            f"the model has collapsed in round {iteration} of self-play",
            value="; ".join(one.told for one in broken),
            why="a model that learns from itself has narrowed, or has lost its roles; further rounds make it worse",
            fix="learn less (a lower train.learning_rate, fewer epochs), hold sessions with more cards or passes, or "
            f"set limits; to keep the rounds before, set iterations to {max(1, iteration - 1)}",
        )


Pair = tuple[SessionRecord, SessionRecord]


def _paired(now: Sequence[SessionRecord], first: Sequence[SessionRecord]) -> list[Pair]:
    before = {(record.card, record.pass_): record for record in first}
    pairs = [(record, before[record.card, record.pass_]) for record in now if (record.card, record.pass_) in before]
    if not pairs:
        raise UserError(
            "the two rounds share no session",
            value=f"{len(now)} and {len(first)} sessions",
            why="rounds are compared on the same cards",
        )
    return pairs


def _failed(record: SessionRecord) -> float:
    return float(record.status == "failed")


def _unnamed(record: SessionRecord) -> float:
    return float(illness_of(record) is None)


def _rise(
    measure: str,
    pairs: Sequence[Pair],
    value: Callable[[SessionRecord], float],
    limit: float | None,
    generator: np.random.Generator,
    told: str,
) -> Watched:
    columns = [[value(pair[side]) for pair in pairs] for side in (0, 1)]
    rise = paired_cluster_difference(columns[0], columns[1], [record.card for record, _ in pairs], generator)
    return beside_limit(measure, rise, limit, unmoved=0.0, told=told)


def _discarded(pairs: Sequence[Pair], limit: float | None, generator: np.random.Generator) -> list[Watched]:
    """Return the rise of the share of discarded turns; nothing where a round has no turn."""

    def rise(rows: np.ndarray[Any, Any]) -> float:
        sums = rows.sum(axis=0)
        return float(sums[0] / max(sums[1], 1.0) - sums[2] / max(sums[3], 1.0))

    rows = [[*_turn_counts(now), *_turn_counts(first)] for now, first in pairs]
    if not sum(row[1] for row in rows) or not sum(row[3] for row in rows):
        return []
    cards = [record.card for record, _ in pairs]
    found = cluster_bootstrap(rows, cards, generator, statistic=rise, bounds=(-1.0, 1.0))
    told = "turns that were discarded: {value:+.1%}"
    return [beside_limit("discarded", found, limit, unmoved=0.0, told=told)]


def _turn_counts(record: SessionRecord) -> tuple[float, float]:
    """Return how many turns were discarded, and how many were written."""
    discarded = sum(entry.turn >= 0 and not entry.why.startswith((KEPT, CUT)) for entry in record.ledger)
    return float(discarded), float(discarded + len(record.dialogue))


def _entropy(pairs: Sequence[Pair], limit: float | None) -> list[Watched]:
    """Return the fall of the entropy of the named illnesses, with its jackknife interval over cards.

    A round in which nothing is named has no entropy: `unnamed` tells of it.
    """
    fall = _fall(pairs)
    cards = list(dict.fromkeys(record.card for record, _ in pairs))
    without = [_fall([pair for pair in pairs if pair[0].card != card]) for card in cards]
    known = [value for value in without if value is not None]
    if fall is None:
        return []
    interval = (
        jackknife(fall, known, n=len(pairs))
        if len(known) == len(without)
        else Interval(fall, -math.inf, math.inf, len(pairs), groups=len(cards))
    )
    told = "the illnesses have lost {value:.2f} bits of entropy"
    return [beside_limit("illness_entropy", interval, limit, unmoved=0.0, told=told)]


def _fall(pairs: Sequence[Pair]) -> float | None:
    bits = [entropy(name for pair in pairs if (name := illness_of(pair[side])) is not None) for side in (0, 1)]
    return None if bits[0] is None or bits[1] is None else bits[1] - bits[0]


def _turns(record: SessionRecord) -> list[str]:
    return [turn.text for turn in record.dialogue]


def _plans(record: SessionRecord) -> list[str]:
    return [plan.plan for plan in (*record.treatments, *record.medicines)]


def _variety(
    measure: str, pairs: Sequence[Pair], texts: Callable[[SessionRecord], list[str]], limit: float | None, what: str
) -> list[Watched]:
    """Return how varied the texts are beside the first round's; nothing where a round has none."""
    sides: list[list[tuple[Hashable, list[Hashable]]]] = [
        [(pair[side].card, [run for text in texts(pair[side]) for run in word_pairs(words_of(text))]) for pair in pairs]
        for side in (0, 1)
    ]
    if not all(any(runs for _, runs in side) for side in sides):
        return []
    told = f"different word pairs of {what}: {{value:.2f}} of the first variety"
    found = distinct_ratio(sides[0], sides[1])
    return [beside_limit(measure, found, limit, unmoved=1.0, told=told, below=True)]


def _perplexity_ratio(now: Expected, first: Expected, generator: np.random.Generator) -> Interval:
    """Return the ratio of two perplexities with its bootstrap interval over the cards that both have items of."""
    cards = [card for card in dict.fromkeys(now.cards) if card in set(first.cards)]
    rows = [[number for side in (now, first) for number in _sums(side, card)] for card in cards]
    if not rows:
        raise UserError("the two rounds share no card whose items were scored")

    def difference(drawn: np.ndarray[Any, Any]) -> float:
        sums = drawn.sum(axis=0)
        return float(sums[2] / sums[3] - sums[0] / sums[1])

    found = cluster_bootstrap(rows, cards, generator, statistic=difference, bounds=UNBOUNDED)
    low, high = (math.exp(min(end, 700.0)) for end in (found.low, found.high))
    return Interval(math.exp(min(found.estimate, 700.0)), low, high, found.n, found.level, found.groups)


def _sums(side: Expected, card: str) -> tuple[float, float]:
    own = [item for item, owner in zip(side.scores, side.cards, strict=True) if owner == card]
    return sum(item.total for item in own), float(sum(len(item.tokens) for item in own))
