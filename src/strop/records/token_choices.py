"""Tokens with their log-probabilities and what else could have stood there, as servers and local models report them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class TokenChoice:
    """One token of an answer.

    Attributes:
        token: Its text.
        log_prob: The natural logarithm of its probability.
        top: The likeliest tokens at this place with their log-probabilities, the likeliest first.
    """

    token: str
    log_prob: float
    top: tuple[tuple[str, float], ...] = ()

    def to_json(self) -> list[Any]:
        """Return ``[token, log_prob, [[token, log_prob], ...]]``."""
        return [self.token, self.log_prob, [list(other) for other in self.top]]

    @classmethod
    def from_json(cls, value: Iterable[Any]) -> Self:
        """Read what `to_json` wrote."""
        token, log_prob, top = value
        return cls(str(token), float(log_prob), tuple((str(other), float(its)) for other, its in top))
