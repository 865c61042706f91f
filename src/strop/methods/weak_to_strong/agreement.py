"""What a response's final answer is, and when two final answers agree.

The published rule is plain equality of normalised strings (`AnswerRule.for_key` in compat mode). Strict mode compares
values, and never takes an undecided comparison for an agreement.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from strop.evaluation.answers import AnswerKey, Mode, extract_answer, parse_key, prepare_gold, same_answer
from strop.evaluation.olympicarena import boxed_answer, judge_agreement

OLYMPICARENA = "olympicarena"
BOX = "\\boxed{"


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

        In compat mode two answers agree iff their normalised strings are equal, as in the published GSM8K and MATH
        files. ``olympicarena`` is the benchmark's own judge in every mode, with the in-context answer as prediction and
        the weak answer as reference, less its named false agreements. Differs from the released judge: a response
        without a box states no answer.
        """
        if key == OLYMPICARENA:
            return cls(_boxed, lambda predicted, reference: judge_agreement(predicted, reference).agrees)
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


def gold_comparison(key: str, mode: Mode = "compat") -> Callable[[str, str], bool | None]:
    """Return what tells whether a final answer equals a gold answer, for audits; None where it cannot tell.

    The gold answer may be given as it stands in a data set: as a value, or as a worked solution that states one.
    """
    if key == OLYMPICARENA:
        return lambda predicted, gold: judge_agreement(predicted, gold).agrees
    parsed = parse_key(key)
    return lambda predicted, gold: same_answer(predicted, prepare_gold(gold, parsed, mode), mode).correct


def answer_mark(key: str) -> str:
    r"""Return what every response with a final answer contains: the key itself, ``\boxed{`` in OlympicArena."""
    return BOX if key == OLYMPICARENA else parse_key(key).text


def _boxed(response: str) -> str:
    content = boxed_answer(response)
    # The judge's own reading falls back to the whole response, which no vote could count.
    return "" if content == response else content.strip()
