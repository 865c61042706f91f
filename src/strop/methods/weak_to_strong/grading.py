"""Grading against gold, for reports, audits and the demonstration choice that asks for it; no builder uses this."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from strop.evaluation.answers import Mode
from strop.methods.weak_to_strong.agreement import AnswerRule, gold_comparison
from strop.records import Answer, Identifier
from strop.runs import Artifact


@dataclass(frozen=True, slots=True)
class Grader:
    """Reads final answers as the method does and compares them with gold as it stands in the data set."""

    extract: Callable[[str], str]
    same: Callable[[str, str], bool | None]

    @classmethod
    def for_key(cls, key: str, mode: Mode) -> Self:
        """Return the grader of an answer key; see `AnswerRule.for_key`."""
        return cls(AnswerRule.for_key(key, mode).extract, gold_comparison(key, mode))

    def correct(self, response: str, gold: str) -> bool | None:
        """Tell whether a response ends in the gold answer; None where the comparison could not be decided."""
        predicted = self.extract(response)
        return self.same(predicted, gold) if predicted else False

    def row(self, given: Answer, gold: str) -> dict[str, Any]:
        """Return one graded answer; `correct` is null where it could not be decided."""
        predicted, correct = self.extract(given.response), self.correct(given.response, gold)
        return {"id": given.id, "pred": predicted, "gold": gold, "correct": correct}


def gold_answers(gold: Artifact, split: str) -> dict[Identifier, str]:
    """Return the gold answers of a split by question id."""
    return {row["id"]: str(row["gold"]) for row in gold.rows(f"{split}.jsonl")}
