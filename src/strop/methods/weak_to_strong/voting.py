"""Self-consistency: what most of a model's sampled responses to one question answer, and how many of them."""

from __future__ import annotations

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
    members: dict[str, list[int]] = {}
    for index, response in enumerate(responses):
        answer = rule.extract(response)
        if answer not in members:
            answer = next((seen for seen in members if rule.agree(answer, seen)), answer)
        members.setdefault(answer, []).append(index)
    # max() returns the first of equals, and a dict keeps the order in which its keys were first seen.
    majority = max(members, key=lambda answer: len(members[answer]))
    positive = set(members[majority])
    return Vote(
        majority,
        tuple(text for index, text in enumerate(responses) if index in positive),
        tuple(text for index, text in enumerate(responses) if index not in positive),
    )


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
