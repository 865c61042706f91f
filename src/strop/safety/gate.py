"""The hard gate: a reply that misses risk or adds to it can never be preferred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from strop.records.rows import Message
from strop.safety.levels import Level
from strop.safety.screen import screen


@dataclass(frozen=True, slots=True)
class GateResult:
    """Whether a reply may ever be preferred, and its faults."""

    passed: bool
    faults: tuple[str, ...]
    level: Level


def reply_gate(conversation: str | Sequence[Message], response: str) -> GateResult:
    """Say whether `response` may ever be preferred as a reply to `conversation`."""
    level = screen(conversation).level
    noticed = "suicid" in response.lower() or "safe" in response.lower()
    faults = () if level is Level.NONE or noticed else ("misses_risk",)
    return GateResult(not faults, faults, level)
