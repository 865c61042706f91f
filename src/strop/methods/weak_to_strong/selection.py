"""Stage I: keep the questions on which the weak model and the strong model in context give the same final answer.

Nothing here sees a gold answer. The kept rows make three training sets, all with the zero-shot prompt: the weak
model's chains, the strong model's, and both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from random import Random

from strop.methods.weak_to_strong.agreement import AnswerRule
from strop.records import Answer, SupervisedExample


class Decision(StrEnum):
    """What the comparison of two answers to one question came to; only `AGREED` keeps the question."""

    AGREED = "agreed"
    DIFFERENT = "different"
    NO_WEAK_ANSWER = "no weak answer"
    NO_ICL_ANSWER = "no icl answer"
    NOT_GRADED = "not graded"


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """The weak model's and the in-context strong model's answer to one question."""

    weak: Answer
    icl: Answer


def compare(pair: AnswerPair, rule: AnswerRule, *, allow_empty: bool = False) -> Decision:
    """Decide whether both answers to a question end in the same final answer.

    Args:
        pair: The two answers.
        rule: How final answers are read and compared; the weak answer is the reference.
        allow_empty: Keep a question for which *neither* response states an answer. The released code refuses it, but
            three published files were made without that guard (8, 11 and 2 rows).
    """
    weak, icl = rule.extract(pair.weak.response), rule.extract(pair.icl.response)
    if not weak:
        return Decision.AGREED if allow_empty and not icl else Decision.NO_WEAK_ANSWER
    if not icl:
        return Decision.NO_ICL_ANSWER
    agree = rule.agree(icl, weak)
    if agree is None:
        return Decision.NOT_GRADED
    return Decision.AGREED if agree else Decision.DIFFERENT


def decide(
    pairs: Iterable[AnswerPair], rule: AnswerRule, *, allow_empty: bool = False
) -> Iterator[tuple[AnswerPair, Decision]]:
    """Yield every pair with its decision, one by one; see `compare`."""
    return ((pair, compare(pair, rule, allow_empty=allow_empty)) for pair in pairs)


def draw_top_up(candidates: Iterable[AnswerPair], *, missing: int, random: Random) -> list[AnswerPair]:
    """Draw the disagreeing questions that top a small selection up to its target, in drawn order.

    The published MATH sets of two models were filled up so, to 1,000 and 2,000 questions; what is drawn is right no
    more often than a random answer of the model. The rule is inferred from the files, the published draw unknown.

    Args:
        candidates: Questions with two different answers, neither of them empty (`Decision.DIFFERENT`).
        missing: How many to draw; all candidates, in random order, where there are fewer.
        random: The source of the draw.
    """
    pool = list(candidates)
    return random.sample(pool, min(max(missing, 0), len(pool)))


def weak_examples(pairs: Iterable[AnswerPair]) -> Iterator[SupervisedExample]:
    """Yield the weak model's chains."""
    return (_example(pair, pair.weak) for pair in pairs)


def icl_examples(pairs: Iterable[AnswerPair]) -> Iterator[SupervisedExample]:
    """Yield the strong model's in-context chains, to be learned without the demonstrations."""
    return (_example(pair, pair.icl) for pair in pairs)


def hybrid_examples(agreed: Iterable[AnswerPair], topped_up: Iterable[AnswerPair] = ()) -> Iterator[SupervisedExample]:
    """Yield both chains of every question: weak_1, icl_1, weak_2, icl_2 and so on.

    Args:
        agreed: The agreed block. Identical texts are not merged.
        topped_up: The top-up block, a collection that can be iterated twice: all its weak chains, then all its
            in-context chains.
    """
    interleaved = (_example(pair, answer) for pair in agreed for answer in (pair.weak, pair.icl))
    return chain(interleaved, weak_examples(topped_up), icl_examples(topped_up))


def _example(pair: AnswerPair, answer: Answer) -> SupervisedExample:
    return SupervisedExample(pair.weak.id, pair.weak.prompt, answer.response)
