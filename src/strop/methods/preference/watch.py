"""The over-optimisation watch: what a policy's answers look like beside the initial policy's, and when it is too much.

A policy that has learned to please its reward model in place of the client shows it on the surface first: answers grow,
repeat themselves, go on to speak for the client, refuse, or drift far from the language that the model began with. Each
measure stands beside the initial policy's on the same speeches, with an interval over speeches.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, Self

from strop.errors import UserError
from strop.evaluation.statistics import paired_cluster_difference
from strop.evaluation.surface import distinct_share, invents_turn, refuses, repeated_runs, word_pairs, words_of
from strop.evaluation.watching import Watched, beside_limit, distinct_ratio, ratio_of_sums
from strop.methods.preference.online_config import WatchLimits

if TYPE_CHECKING:
    import numpy as np

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Look:
    """What the watch sees of one answer.

    Attributes:
        id: The speech's, or any name that answers to one speech share.
        words: Length in words.
        pairs: Its first neighbouring words, as `word_pairs` gives them.
        repetition: Share of its four-word runs that have occurred in it before.
        invented_turn: Whether it goes on as another speaker.
        refusal: Whether it refuses to help.
        empty: Whether it holds no word.
        cut: Whether the token limit cut it.
        log_ratio: log(policy / initial) of the answer in nats; None where it was not measured.
        tokens: How many tokens that is over.
    """

    id: Hashable
    words: int
    pairs: tuple[Pair, ...]
    repetition: float
    invented_turn: bool
    refusal: bool
    empty: bool
    cut: bool
    log_ratio: float | None
    tokens: int

    @classmethod
    def at(cls, identifier: Hashable, text: str, *, cut: bool, log_ratio: float | None = None, tokens: int = 0) -> Self:
        """Look at one answer."""
        words = words_of(text)
        return cls(
            id=identifier,
            words=len(words),
            pairs=word_pairs(words),
            repetition=repeated_runs(words),
            invented_turn=invents_turn(text),
            refusal=refuses(text),
            empty=not words,
            cut=cut,
            log_ratio=log_ratio,
            tokens=tokens,
        )

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Look at a row of an examination: `id`, `response`, `finish`, `log_ratio`, `tokens`."""
        cut = row["finish"] == "length"
        return cls.at(row["id"], row["response"], cut=cut, log_ratio=row["log_ratio"], tokens=row["tokens"])


@dataclass(frozen=True, slots=True)
class Measures:
    """What a set of answers looks like.

    Attributes:
        n: Answers.
        words: Mean length in words.
        distinct_2: Different pairs among all neighbouring words of the set, as a share (Li et al. 2016), over the first
            words of each answer, so that a longer answer does not count as a duller one.
        repetition: Mean share of an answer's four-word runs that have occurred in it before.
        invented_turns: Share of answers that go on as another speaker.
        refusals: Share of answers that refuse to help.
        empty: Share of answers without a word.
        cut: Share of answers that the token limit cut.
        kl: Divergence from the initial policy in nats a token; None where it was not measured.
        kl_answer: The same in nats an answer.
    """

    n: int
    words: float
    distinct_2: float
    repetition: float
    invented_turns: float
    refusals: float
    empty: float
    cut: float
    kl: float | None = None
    kl_answer: float | None = None

    @classmethod
    def of(cls, looks: Sequence[Look]) -> Self:
        """Return the measures of a set of answers.

        Raises:
            UserError: There is no answer.
        """
        if not looks:
            raise UserError("there is no answer to look at", why="the watch compares answers")
        ratios = [look.log_ratio for look in looks if look.log_ratio is not None]
        known = len(ratios) == len(looks)
        return cls(
            n=len(looks),
            words=fmean(look.words for look in looks),
            distinct_2=distinct_2(looks),
            repetition=fmean(look.repetition for look in looks),
            invented_turns=fmean(look.invented_turn for look in looks),
            refusals=fmean(look.refusal for look in looks),
            empty=fmean(look.empty for look in looks),
            cut=fmean(look.cut for look in looks),
            kl=sum(ratios) / max(1, sum(look.tokens for look in looks)) if known else None,
            kl_answer=fmean(ratios) if known else None,
        )

    def to_row(self) -> dict[str, Any]:
        """Return the measures as JSON."""
        return asdict(self)


RISES: Mapping[str, str] = {
    "repetition": "four-word runs that repeat an earlier one: {value:+.1%} of an answer's",
    "invented_turns": "answers that go on to speak for somebody else: {value:+.1%}",
    "refusals": "answers that refuse: {value:+.1%}",
    "empty": "empty answers: {value:+.1%}",
    "cut": "answers cut by the token limit: {value:+.1%}",
}
"""Measures that are watched as a rise above the initial policy's, and how they are told."""


def watched(
    now: Sequence[Look], start: Sequence[Look], limits: WatchLimits, generator: np.random.Generator
) -> list[Watched]:
    """Hold a policy's answers against the limits.

    A limit is broken where the estimate lies beyond it and the interval excludes no change at all, so that a handful of
    speeches raises no alarm by chance.

    Args:
        now: The policy's answers.
        start: The initial policy's, to the same speeches in the same order.
        limits: The limits.
        generator: Source of the bootstrap's draws.

    Raises:
        UserError: The two answered different speeches, or a divergence is no number.
    """
    if [look.id for look in now] != [look.id for look in start]:
        raise UserError("the watch compares answers to the same speeches, in one order")
    Measures.of(now)
    ids = [look.id for look in now]
    length = ratio_of_sums(ids, [look.words for look in now], [look.words for look in start], generator, nothing=1.0)
    told = "answers have {value:.2f} times their first length"
    found = [
        beside_limit("length_ratio", length, limits.length_ratio, unmoved=1.0, told=told),
        beside_limit("shortness_ratio", length, limits.shortness_ratio, unmoved=1.0, told=told, below=True),
        beside_limit(
            "distinct_2_ratio",
            distinct_ratio(_variety(now), _variety(start)),
            limits.distinct_2_ratio,
            unmoved=1.0,
            told="different word pairs: {value:.2f} of the first variety",
            below=True,
        ),
    ]
    for name, sentence in RISES.items():
        columns = [[_share(look, name) for look in looks] for looks in (now, start)]
        rise = paired_cluster_difference(columns[0], columns[1], ids, generator)
        found.append(beside_limit(name, rise, getattr(limits, name), unmoved=0.0, told=sentence))
    ratios = [_number(look) for look in now if look.log_ratio is not None]
    if len(ratios) == len(now):
        kl = ratio_of_sums(ids, ratios, [look.tokens for look in now], generator, nothing=0.0)
        sentence = "the policy is {value:.2f} nats a token away from the initial one"
        found.append(beside_limit("kl", kl, limits.kl, unmoved=0.0, told=sentence))
    return found


def _share(look: Look, name: str) -> float:
    singular = {"invented_turns": "invented_turn", "refusals": "refusal"}.get(name, name)
    return float(getattr(look, singular))


def _number(look: Look) -> float:
    assert look.log_ratio is not None
    if not math.isfinite(look.log_ratio):
        raise UserError(f"the divergence of the answer to {look.id!r} is not a number", value=look.log_ratio)
    return look.log_ratio


def _variety(looks: Sequence[Look]) -> list[tuple[Hashable, tuple[Pair, ...]]]:
    return [(look.id, look.pairs) for look in looks]


def distinct_2(looks: Sequence[Look]) -> float:
    """Return the share of different pairs among the neighbouring words of all answers together; 1 without any pair."""
    return distinct_share(pair for look in looks for pair in look.pairs)
