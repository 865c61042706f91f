"""Training pairs in the layout of the released code, for whoever continues from its files: messages, and Llama's text.

The layout's defects are kept, because a model that was trained on it knows them: no line break stands before two of
the three questions, the text ends without an end-of-sequence token, and no chat template is used. The words of the
questions are ours unless others are given: the released ones have no licence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strop.errors import UserError
from strop.methods.selfplay.cleaning import PUBLISHED, Outcome, Part, broken_rules, kept_parts
from strop.methods.selfplay.training_set import QUESTIONS, Questions
from strop.records.tables import iter_table

RELEASED_FIELDS = ("symptom", "illness", "treatment", "explain_t", "medicine", "explain_m")


@dataclass(frozen=True, slots=True)
class ReleasedPair:
    """One pair as the released code makes it.

    Attributes:
        part: What is asked for.
        system: The role.
        question: The card and the question.
        answer: The answer to learn.
    """

    part: Part
    system: str
    question: str
    answer: str

    def messages(self) -> dict[str, Any]:
        """Return the row of a GPT fine-tuning file."""
        roles = (("system", self.system), ("user", self.question), ("assistant", self.answer))
        return {"messages": [{"role": role, "content": content} for role, content in roles]}

    def text(self) -> dict[str, str]:
        """Return the row of a Llama fine-tuning file."""
        return {"text": f"### System: {self.system} Question: {self.question}\n ### Answer: {self.answer}"}


def released_pairs(row: Mapping[str, Any], *, questions: Questions = QUESTIONS) -> Iterator[ReleasedPair]:
    """Yield the two or three pairs that the released code makes of a row; its filter sees the medicine alone.

    Args:
        row: The six released fields, or a session record, which has them too.
        questions: The words of the questions.

    Raises:
        UserError: A field is missing.
    """
    symptom, outcome = row.get("symptom"), Outcome.from_row(row)
    if not isinstance(symptom, str):
        raise UserError("a released row needs the text 'symptom'", value=sorted(row), alternatives=RELEASED_FIELDS)
    answers: dict[Part, str] = {
        "diagnosis": outcome.illness,
        "treatment": f"{outcome.treatment}. {outcome.explain_t}",
        "medication": f"{outcome.medicine}. {outcome.explain_m}",
    }
    for part in kept_parts(broken_rules(outcome, PUBLISHED)):
        joint = "\n" if part == "diagnosis" else ""
        yield ReleasedPair(part, questions.system, f"{symptom}{joint}{questions.of(part)}", answers[part])


@dataclass(frozen=True, slots=True)
class PairCounts:
    """How many pairs rows make.

    Attributes:
        rows: Rows.
        pairs: Pairs of the released rule.
        unique: Different pairs: the same question with the same answer counts once.
    """

    rows: int
    pairs: int
    unique: int


def count_pairs(paths: Iterable[Path]) -> PairCounts:
    """Count the pairs of released files, as one set.

    Raises:
        UserError: A file is broken, or a row is none of the released ones.
    """
    rows = pairs = 0
    unique: set[ReleasedPair] = set()
    for path in paths:
        for row in iter_table(path):
            own = list(released_pairs(row))
            rows, pairs = rows + 1, pairs + len(own)
            unique.update(own)
    return PairCounts(rows, pairs, len(unique))
