"""Weak-to-Strong Reasoning (Yang, Ma and Liu, arXiv 2407.13647): its two stages as pure functions of records.

Between the stages lie generation and training, which belong to the recipe. No function takes a gold answer, and no
type that they take can hold one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random

from strop.methods.weak_to_strong.agreement import AnswerRule
from strop.methods.weak_to_strong.contrast import PUBLISHED_THRESHOLDS, PairRule, Role, Thresholds, contrast, weak_role
from strop.methods.weak_to_strong.selection import (
    AnswerPair,
    Decision,
    decide,
    draw_top_up,
    hybrid_examples,
    icl_examples,
    weak_examples,
)
from strop.methods.weak_to_strong.voting import vote
from strop.records import Answer, PreferencePair, SampledAnswers, SupervisedExample


@dataclass(frozen=True, slots=True)
class Selection:
    """What Stage I keeps: the agreed questions, those drawn to top them up, and how every question was decided."""

    agreed: list[AnswerPair]
    topped_up: list[AnswerPair]
    decisions: Counter[Decision]

    @property
    def weak(self) -> list[SupervisedExample]:
        """The training set of the weak model's chains."""
        return list(weak_examples([*self.agreed, *self.topped_up]))

    @property
    def icl(self) -> list[SupervisedExample]:
        """The training set of the strong model's in-context chains."""
        return list(icl_examples([*self.agreed, *self.topped_up]))

    @property
    def hybrid(self) -> list[SupervisedExample]:
        """The training set of both."""
        return list(hybrid_examples(self.agreed, self.topped_up))


@dataclass(frozen=True, slots=True)
class TopUp:
    """Fill a selection up to `target` questions with disagreeing ones, drawn by `random`."""

    target: int
    random: Random


def stage_one(
    pairs: Iterable[AnswerPair], rule: AnswerRule, *, allow_empty: bool = False, top_up: TopUp | None = None
) -> Selection:
    """Keep the questions whose weak and in-context answers agree (final-answer consistency).

    Args:
        pairs: Both models' answers, one entry per question, ascending id; the kept rows keep this order.
        rule: How final answers are read and compared.
        allow_empty: See `strop.methods.weak_to_strong.selection.compare`.
        top_up: The unpublished MATH rule; see `strop.methods.weak_to_strong.selection.draw_top_up`.
    """
    agreed: list[AnswerPair] = []
    different: list[AnswerPair] = []
    decisions: Counter[Decision] = Counter()
    for pair, decision in decide(pairs, rule, allow_empty=allow_empty):
        decisions[decision] += 1
        if decision is Decision.AGREED:
            agreed.append(pair)
        elif decision is Decision.DIFFERENT and top_up:
            different.append(pair)
    drawn = draw_top_up(different, missing=top_up.target - len(agreed), random=top_up.random) if top_up else []
    return Selection(agreed, drawn, decisions)


def stage_two(
    questions: Iterable[tuple[Answer, SampledAnswers]],
    rule: AnswerRule,
    *,
    pairs: PairRule,
    thresholds: Thresholds = PUBLISHED_THRESHOLDS,
    random: Random,
    roles: Counter[Role] | None = None,
) -> Iterator[PreferencePair]:
    """Yield preference pairs from the strong model's votes and the original weak model's answers.

    Args:
        questions: For every question the answer of the *original* weak model (not of a model that was fine-tuned on
            it) and the strong model's samples, in question order.
        rule: How final answers are read and compared.
        pairs: One pair per question, or up to three.
        thresholds: 0.6 and 0.8 unless given.
        random: ``random.Random(42)`` gives the published stream.
        roles: Where given, counts what became of each question.
    """
    for weak, samples in questions:
        decided = vote(samples.responses, rule)
        role = weak_role(rule.extract(weak.response), decided, rule, thresholds)
        if roles is not None:
            roles[role] += 1
        for chosen, rejected in contrast(weak.response, role, decided, pairs, random):
            yield PreferencePair(weak.id, weak.prompt, chosen, rejected)
