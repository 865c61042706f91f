"""Stage II: pairs that set the weak model's chain against the strong model's own samples.

The strong model's vote takes the place of gold. Where the vote is clear and agrees with the weak model, the weak chain
is preferred to a sample that lost the vote; where it is clearer still and disagrees, a sample that won the vote is
preferred to the weak chain. The weak chain is therefore always on one side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from random import Random
from typing import Literal

from strop.methods.weak_to_strong.agreement import AnswerRule
from strop.methods.weak_to_strong.voting import Vote

PairRule = Literal["gsm8k", "math"]
"""``gsm8k`` makes one pair per question; ``math`` (also used for OlympicArena) up to three."""

MATH_PAIRS = 3


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The least shares of the vote: to use a question at all, and to call the weak answer wrong."""

    keep: Fraction = Fraction(6, 10)
    reject_weak: Fraction = Fraction(8, 10)


PUBLISHED_THRESHOLDS = Thresholds()


class Role(StrEnum):
    """What a question's weak chain becomes, or why the question makes no pair."""

    WEAK_CHOSEN = "weak chosen"
    WEAK_REJECTED = "weak rejected"
    UNSURE = "vote below the first threshold"
    NO_ANSWER = "majority without an answer"
    TOO_EASY = "every sample agrees with the weak answer"
    DISPUTED = "weak answer differs, vote below the second threshold"
    NOT_GRADED = "not graded"


def weak_role(weak: str, decided: Vote, rule: AnswerRule, thresholds: Thresholds) -> Role:
    """Decide what the weak chain is, from the weak final answer `weak` (which may be empty) and the vote."""
    if not decided.reaches(thresholds.keep):
        return Role.UNSURE
    if not decided.majority:
        return Role.NO_ANSWER
    agree = rule.agree(decided.majority, weak)
    if agree is None:
        return Role.NOT_GRADED
    if agree:
        return Role.WEAK_CHOSEN if decided.negatives else Role.TOO_EASY
    return Role.WEAK_REJECTED if decided.reaches(thresholds.reject_weak) else Role.DISPUTED


def contrast(weak: str, role: Role, decided: Vote, rule: PairRule, random: Random) -> Iterator[tuple[str, str]]:
    """Yield a question's ``(chosen, rejected)`` texts.

    `random` is consumed exactly as the released code consumes its generator: one ``sample`` call for a question that
    makes pairs, except under the ``math`` rule when the weak chain is chosen and there are at most three negatives.

    Args:
        weak: The weak chain.
        role: What `weak_role` decided.
        decided: The vote.
        rule: One pair, or up to three.
        random: The stream that all questions of a set draw from, in question order.
    """
    if role is Role.WEAK_CHOSEN:
        yield from ((weak, negative) for negative in _negatives(decided, rule, random))
    elif role is Role.WEAK_REJECTED:
        yield from ((positive, weak) for positive in _positives(decided, rule, random))


def _negatives(decided: Vote, rule: PairRule, random: Random) -> list[str]:
    if rule == "gsm8k":
        return random.sample(decided.negatives, 1)
    if len(decided.negatives) <= MATH_PAIRS:
        return list(decided.negatives)
    return random.sample(decided.negatives, MATH_PAIRS)


def _positives(decided: Vote, rule: PairRule, random: Random) -> list[str]:
    """Draw one positive; under the ``math`` rule add the next ones that differ from it (not from each other)."""
    first = random.sample(decided.positives, 1)
    if rule == "gsm8k":
        return first
    others = [text for text in decided.positives if text != first[0]]
    return first + others[: MATH_PAIRS - 1]
