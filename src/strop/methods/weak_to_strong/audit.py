"""Audits of splits, selections and pair sets. The only place of the method where gold is looked at.

An audit returns counts and shares with their denominators; a share of nothing is None, never zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from strop.methods.weak_to_strong.agreement import AnswerRule
from strop.methods.weak_to_strong.demonstrations import Demonstration
from strop.records import Answer, Identifier, PreferencePair, Question


def share(part: int, whole: int) -> float | None:
    """Return ``part / whole``, or None where there is no whole."""
    return part / whole if whole else None


@dataclass(frozen=True, slots=True)
class Repetition:
    """How often the questions of one split repeat each other: `surplus` rows beyond the first of each text."""

    rows: int
    surplus: int


def repetition(questions: Iterable[Question]) -> Repetition:
    """Count the rows of a split whose question text occurred before."""
    texts = Counter(question.text for question in questions)
    return Repetition(texts.total(), texts.total() - len(texts))


@dataclass(frozen=True, slots=True)
class Leakage:
    """Question texts that two splits share, with the ids in the first and in the second."""

    shared: int
    first_ids: tuple[Identifier, ...]
    second_ids: tuple[Identifier, ...]


def leakage(first: Sequence[Question], second: Sequence[Question]) -> Leakage:
    """Find the question texts that occur in both splits."""
    common = {question.text for question in first} & {question.text for question in second}
    first_ids, second_ids = (
        tuple(question.id for question in split if question.text in common) for split in (first, second)
    )
    return Leakage(len(common), first_ids, second_ids)


@dataclass(frozen=True, slots=True)
class Supervisor:
    """How many pairs carry a candidate's own response to their question.

    `checkable` counts the pairs whose question the candidate answered; `chosen` and `rejected` those of them that
    have the candidate's response on that side.
    """

    candidate: str
    pairs: int
    checkable: int
    chosen: int
    rejected: int

    @property
    def share(self) -> float | None:
        """The share of the checkable pairs with the candidate's response on one side: 1 for the true supervisor."""
        return share(self.chosen + self.rejected, self.checkable)

    def to_row(self) -> dict[str, Any]:
        """Return all counts and the share."""
        return {**asdict(self), "share": self.share}


def supervisor(pairs: Iterable[PreferencePair], candidate: str, responses: Mapping[Identifier, str]) -> Supervisor:
    """Check whether the weak side of a pair set comes from `candidate`, whose responses by question id are given.

    The construction puts the supervisor's response on one side of every pair, so that its share is exactly 1, and
    another model's share is what chance gives.
    """
    total = checkable = chosen = rejected = 0
    for pair in pairs:
        total += 1
        response = responses.get(pair.id)
        if response is None:
            continue
        checkable += 1
        if pair.chosen == response:
            chosen += 1
        elif pair.rejected == response:
            rejected += 1
    return Supervisor(candidate, total, checkable, chosen, rejected)


@dataclass(frozen=True, slots=True)
class PairSides:
    """What the two sides of a pair set look like; the construction rules out `same_answer` and `empty_chosen`."""

    pairs: int
    questions: int
    same_answer: int
    empty_chosen: int
    empty_rejected: int
    repeated: int


def pair_sides(pairs: Iterable[PreferencePair], rule: AnswerRule) -> PairSides:
    """Count pairs per kind: equal final answers, none on a side, exact repetitions of an earlier pair."""
    seen: set[int] = set()
    questions: set[Identifier] = set()
    counts: Counter[str] = Counter()
    for pair in pairs:
        chosen, rejected = rule.extract(pair.chosen), rule.extract(pair.rejected)
        digest = hash((pair.id, pair.chosen, pair.rejected))
        counts["pairs"] += 1
        counts["same_answer"] += bool(rule.agree(chosen, rejected))
        counts["empty_chosen"] += not chosen
        counts["empty_rejected"] += not rejected
        counts["repeated"] += digest in seen
        seen.add(digest)
        questions.add(pair.id)
    return PairSides(
        counts["pairs"],
        len(questions),
        counts["same_answer"],
        counts["empty_chosen"],
        counts["empty_rejected"],
        counts["repeated"],
    )


@dataclass(frozen=True, slots=True)
class Quality:
    """How a selection of weak answers stands to gold; counts leave out rows that have no gold or cannot be graded.

    `precision` is the share of the kept answers that are right, `recall` the share of the right answers that are
    kept, `base` the share of right answers before selection.
    """

    rows: int
    kept: int
    correct: int
    kept_correct: int
    not_graded: int

    @property
    def precision(self) -> float | None:
        """Right among kept."""
        return share(self.kept_correct, self.kept)

    @property
    def recall(self) -> float | None:
        """Kept among right."""
        return share(self.kept_correct, self.correct)

    @property
    def base(self) -> float | None:
        """Right among all."""
        return share(self.correct, self.rows)

    def to_row(self) -> dict[str, Any]:
        """Return all counts and the three shares."""
        return {**asdict(self), "precision": self.precision, "recall": self.recall, "base": self.base}


def selection_quality(
    answers: Iterable[tuple[Identifier, str]],
    kept: Collection[Identifier],
    gold: Mapping[Identifier, str],
    *,
    same: Callable[[str, str], bool | None],
) -> Quality:
    """Compare the weak model's final answers with gold, among the kept questions and among all.

    Args:
        answers: Every question's id with the weak model's final answer.
        kept: The ids that the selection kept.
        gold: The gold answers by id; they may cover a part of the questions.
        same: Tells whether a final answer equals a gold answer; None where it cannot tell.
    """
    rows = chosen = correct = kept_correct = not_graded = 0
    for question, answer in answers:
        if question not in gold:
            continue
        verdict = same(answer, gold[question]) if answer else False
        if verdict is None:
            not_graded += 1
            continue
        rows += 1
        chosen += question in kept
        correct += verdict
        kept_correct += verdict and question in kept
    return Quality(rows, chosen, correct, kept_correct, not_graded)


def demonstrations_among(
    demonstrations: Iterable[Demonstration | Question], questions: Iterable[Question]
) -> list[tuple[Identifier, Identifier]]:
    """Return the demonstrations whose question is asked as well: pairs of demonstration id and question id.

    In the published runs all of them are: demonstrations are answers to the very questions of train_2.
    """
    shown = {_question(demonstration): demonstration.id for demonstration in demonstrations}
    return [(shown[question.text], question.id) for question in questions if question.text in shown]


def _question(shown: Demonstration | Question) -> str:
    return shown.text if isinstance(shown, Question) else shown.question


def without_answer(examples: Iterable[Answer], rule: AnswerRule) -> list[Identifier]:
    """Return the ids of the responses that state no final answer."""
    return [example.id for example in examples if not rule.extract(example.response)]
