"""The risk screen: every turn of a conversation and the conversation so far."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from strop.records.rows import Message
from strop.safety.levels import Level


@dataclass(frozen=True, slots=True)
class Screening:
    """What the screen found."""

    level: Level
    kinds: tuple[str, ...]
    evidence: tuple[str, ...]
    unsure: bool


_DIRECT = re.compile(r"suicid|kill (?:my|him|her)self|end my life|want(?:s|ed)? to die", re.IGNORECASE)


def screen(conversation: str | Sequence[Message]) -> Screening:
    """Screen what a client wrote."""
    turns = (
        [conversation]
        if isinstance(conversation, str)
        else [turn.content for turn in conversation if turn.role == "user"]
    )
    found = [match.group() for turn in turns for match in _DIRECT.finditer(turn)]
    return Screening(Level.ACTIVE if found else Level.NONE, ("active_ideation",) * bool(found), tuple(found), False)
