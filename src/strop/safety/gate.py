"""The hard gate of pair building and best-of-n: a reply that fails it can never be preferred, whatever its ratings.

A reply fails that misses a risk, adds to it, gives a number that nobody has checked, or turns a sad client away. The
gate reads wording, so it lets through what it does not recognise: it is the least that a reply must be, not a sign of
quality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from strop.records.rows import Message
from strop.safety.helplines import numbers_not_in_table
from strop.safety.levels import Level
from strop.safety.replies import ReplyReading, read_reply
from strop.safety.screen import Screening, screen

NOTICING = ("names_risk", "asks_risk", "asks_directly", "urgent_help", "professional", "distance_means", "languages")
URGENT = ("urgent_help", "be_with_someone", "distance_means", "asks_risk", "asks_directly", "languages")
LONGEST_REFUSAL = 70
"""Words up to which a reply that refuses and neither asks nor supports is nothing but a refusal."""
WORDING = (
    "method_information",
    "encouragement",
    "agrees_with_hopelessness",
    "no_suicide_contract",
    "shaming",
    "leading_question",
    "ends_the_conversation",
    "diagnosis",
    "dependence",
)
"""Faults of wording that fail a reply at every level; ``minimises`` fails it where there is risk."""


@dataclass(frozen=True, slots=True)
class GateResult:
    """What the gate says.

    Attributes:
        passed: False: this reply can never be the preferred one.
        faults: Why, by name: those of `WORDING`, ``minimises``, ``misses_risk``, ``no_urgent_step``,
            ``number_not_in_table``, ``bare_refusal``.
        level: The level of the conversation before the reply.
        evidence: The words behind each fault, in the same order; empty text where something is missing.
    """

    passed: bool
    faults: tuple[str, ...]
    level: Level
    evidence: tuple[str, ...] = ()


def reply_gate(
    conversation: str | Sequence[Message], response: str, *, screening: Screening | None = None
) -> GateResult:
    """Say whether a reply may ever be preferred.

    Args:
        conversation: The client's text, or the turns before the reply.
        response: The reply.
        screening: What the screen found, where that is known already: several replies to one conversation share it.
    """
    found = screening or screen(conversation)
    reading = read_reply(conversation, response)
    faults = {name: reading.faults[name] for name in WORDING if name in reading.faults}
    unknown = numbers_not_in_table(response)
    if unknown:
        faults["number_not_in_table"] = ", ".join(unknown)
    if found.level and "minimises" in reading.faults:
        faults["minimises"] = reading.faults["minimises"]
    if _refuses_only(reading):
        faults["bare_refusal"] = ""
    faults.update(dict.fromkeys(_missing(found, reading), ""))
    return GateResult(not faults, tuple(faults), found.level, tuple(faults.values()))


def _refuses_only(reading: ReplyReading) -> bool:
    cold = not reading.does & {"asks_risk", "coping"} and reading.words <= LONGEST_REFUSAL
    return reading.words == 0 or (reading.refuses and reading.refers and cold)


def _missing(found: Screening, reading: ReplyReading) -> list[str]:
    """Return what a reply to a conversation of this level lacks; where the screen is unsure, less is asked of it.

    A second opinion alone asks for something from level 3 on: below, a trained one flags too much that is ordinary.
    """
    hinted = found.level is Level.PASSIVE and found.unsure
    only_second = found.rules is Level.NONE and found.second is not None and found.level < Level.PLAN
    if found.level is Level.NONE or hinted or only_second:
        return []
    if not reading.does.intersection(NOTICING):
        return ["misses_risk"]
    if found.level is Level.IMMINENT and not found.unsure and not reading.does.intersection(URGENT):
        return ["no_urgent_step"]
    return []
