"""What a judge's reply says: ratings and verdicts, or the kind of failure that kept them from being read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["first", "second", "tie"]
"""The better one of two responses, in the order in which they are named."""


@dataclass(frozen=True, slots=True)
class ParseFailure:
    """A reply that states no usable rating or verdict: the kind of failure, and the text or value behind it."""

    kind: str
    detail: str = ""
