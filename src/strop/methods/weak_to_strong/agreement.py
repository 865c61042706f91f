"""What a response's final answer is, and when two final answers agree.

The published rule is plain equality of normalised strings (`AnswerRule.for_key` in compat mode). Strict mode compares
values, and never takes an undecided comparison for an agreement.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from strop.evaluation.answers import AnswerKey, Mode, extract_answer, parse_key, same_answer


@dataclass(frozen=True, slots=True)
class AnswerRule:
    """How final answers are read and compared.

    `extract` returns a response's final answer, the empty string where it states none. `same` compares two final
    answers that are not empty, the second being the reference, and returns None where it cannot tell.
    """

    extract: Callable[[str], str]
    same: Callable[[str, str], bool | None] = operator.eq

    @classmethod
    def for_key(cls, key: str | AnswerKey, mode: Mode = "compat") -> Self:
        """Return the rule for answers introduced by `key`: ``gsm8k``, ``math``, or the introducing text itself.

        In compat mode two answers agree iff their normalised strings are equal, as in all published files.
        """
        parsed = parse_key(key) if isinstance(key, str) else key

        def extract(response: str) -> str:
            return extract_answer(response, parsed, mode)

        if mode == "compat":
            return cls(extract)
        return cls(extract, lambda predicted, reference: same_answer(predicted, reference, mode).correct)

    def agree(self, predicted: str, reference: str) -> bool | None:
        """Tell whether two final answers agree; the empty one agrees only with itself; None where undecided."""
        if predicted == reference:
            return True
        return self.same(predicted, reference) if predicted and reference else False
