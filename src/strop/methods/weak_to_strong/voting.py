"""Self-consistency: what most of a model's sampled responses to one question answer, and how many of them."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from strop.errors import UserError
from strop.methods.weak_to_strong.agreement import AnswerRule


@dataclass(frozen=True, slots=True)
class Vote:
    """The majority answer, the responses that give it and those that do not, both in sample order."""

    majority: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]

    @property
    def confidence(self) -> Fraction:
        """The majority's share of the samples, exact."""
        return Fraction(len(self.positives), len(self.positives) + len(self.negatives))

    def reaches(self, threshold: Fraction) -> bool:
        """Tell whether the majority's share is at least `threshold`, in integers."""
        total = len(self.positives) + len(self.negatives)
        return len(self.positives) * threshold.denominator >= threshold.numerator * total


def vote(responses: Sequence[str], rule: AnswerRule) -> Vote:
    """Count the final answers of `responses`; the most common wins, among equals the one seen first.

    No answer counts as an answer of its own. Where the rule compares values, a response joins the first answer seen
    that it agrees with.

    Args:
        responses: One question's sampled responses in sample order, at least one.
        rule: How final answers are read and compared.

    Raises:
        UserError: There is no response.
    """
    if not responses:
        raise UserError("a vote needs at least one response")
    answers = _merged([rule.extract(response) for response in responses], rule)
    counts = Counter(answers)
    # max() returns the first of equals, and a Counter keeps the order in which its keys were first seen.
    majority = max(counts, key=counts.__getitem__)
    return Vote(
        majority,
        tuple([response for response, answer in zip(responses, answers, strict=True) if answer == majority]),
        tuple([response for response, answer in zip(responses, answers, strict=True) if answer != majority]),
    )


def _merged(answers: list[str], rule: AnswerRule) -> list[str]:
    """Replace every answer by the first one that it agrees with."""
    if rule.same is operator.eq:
        return answers
    seen: dict[str, str] = {}
    for answer in answers:
        if answer not in seen:
            seen[answer] = next((first for first in seen.values() if rule.agree(answer, first)), answer)
    return [seen[answer] for answer in answers]


def exact(share: Fraction | float | str) -> Fraction:
    """Return a share as the fraction that its decimal notation means: 0.6 is three fifths, not the nearest float.

    Raises:
        UserError: It is not a number between 0 and 1.
    """
    try:
        fraction = share if isinstance(share, Fraction) else Fraction(str(share))
    except (ValueError, ZeroDivisionError):
        raise UserError("a threshold must be a number between 0 and 1", value=share) from None
    if not 0 <= fraction <= 1:
        raise UserError("a threshold must be a number between 0 and 1", value=share)
    return fraction
