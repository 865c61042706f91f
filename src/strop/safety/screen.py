"""The risk screen: every turn of a conversation, and the conversation so far.

Rules read what a client wrote (`strop.safety.patterns`); a second opinion may be added, and only ever raises the level.
Of two possible levels the higher one stands, a failure of the screen itself is handled as risk, and nothing that the
text says about the screen lowers what it finds. It is a first pass that calls for a person, not an assessment.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from strop.records.rows import Message
from strop.safety.levels import KINDS, Level
from strop.safety.matching import STEERING, Evidence, answered, find
from strop.safety.patterns import Patterns, read_patterns
from strop.safety.second import Second, ask, escalated

NOT_CLIENTS = ("assistant", "system")
TIMEOUT = 20.0
"""Seconds that a second opinion may take."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Screening:
    """What the screen found.

    Attributes:
        level: The level of the conversation so far: the highest of any turn, of the turns together and of the second
            opinion.
        kinds: What the risk is of, in the order of `KINDS`.
        evidence: What the level rests on, ``name of the pattern: words``, the gravest first.
        unsure: Whether a harmless reading is possible, a frame of fiction or an attempt to steer the screen was found,
            or a part of the screen failed; the level is then the higher one.
        turns: The level of each of the client's turns by itself.
        rules: What the rules alone found.
        second: What the second opinion said; None where there was none.
        failures: What failed, in words; empty where nothing did.
    """

    level: Level
    kinds: tuple[str, ...]
    evidence: tuple[str, ...]
    unsure: bool
    turns: tuple[Level, ...] = ()
    rules: Level = Level.NONE
    second: Level | None = None
    failures: tuple[str, ...] = ()


def screen(
    conversation: str | Sequence[Message],
    *,
    second: Second | None = None,
    timeout: float = TIMEOUT,
    patterns: Patterns | None = None,
) -> Screening:
    """Screen what a client wrote, in any turn and in all turns together.

    A failure of the rules counts as `Level.PLAN`. A second opinion that fails, is late or unreadable raises the level
    by one, to at least `Level.ACTIVE`.

    Args:
        conversation: The client's text, or the turns so far; turns of the roles `NOT_CLIENTS` are read as questions
            that the client answered.
        second: A second opinion; it is asked whatever the rules found.
        timeout: Seconds that it may take.
        patterns: What the rules look for; the shipped patterns by default.
    """
    turns, looked_for = _turns(conversation), patterns or read_patterns()
    try:
        result = _by_rules(turns, looked_for)
    except Exception as error:
        log.exception("the risk screen failed; the conversation is handled as risk")
        reason = f"the rules failed: {type(error).__name__}: {error}"[:300]
        result = Screening(Level.PLAN, (), (), True, (), Level.PLAN, failures=(reason,))
    if second is None:
        return result
    opinion = ask(second, as_text(turns), timeout=timeout)
    if opinion.level is None:
        log.warning("the second opinion on risk failed (%s): the level is raised", opinion.failure)
        failures = (*result.failures, f"the second opinion failed: {opinion.failure}")
        return replace(result, level=escalated(result.level), unsure=True, failures=failures)
    unsure = result.unsure or opinion.level != result.level
    return replace(result, level=max(result.level, opinion.level), unsure=unsure, second=opinion.level)


def as_text(conversation: str | Sequence[Message]) -> str:
    """Return a conversation as lines, ``client: ...`` or ``reply: ...``."""
    turns = [turn for turn in _turns(conversation) if turn.role != "system"]
    return "\n".join(f"{'reply' if turn.role in NOT_CLIENTS else 'client'}: {turn.content}" for turn in turns)


def _turns(conversation: str | Sequence[Message]) -> tuple[Message, ...]:
    return (Message("user", conversation),) if isinstance(conversation, str) else tuple(conversation)


def _by_rules(turns: Sequence[Message], patterns: Patterns) -> Screening:
    said = [turn.content for turn in turns if turn.role not in NOT_CLIENTS]
    evidence: list[Evidence] = []
    levels = []
    for text in said:
        found = [each for form in patterns.forms(text) for each in find(form, patterns)]
        levels.append(_highest(found))
        evidence += found
    if len(said) > 1:
        for joint in ("\n", " "):
            evidence += [each for form in patterns.forms(joint.join(said)) for each in find(form, patterns)]
    for before, turn in pairwise(turns):
        if before.role == "assistant" and turn.role not in NOT_CLIENTS:
            question = patterns.forms(before.content)[0]
            evidence += [each for form in patterns.forms(turn.content) for each in answered(question, form, patterns)]
    return _summary(evidence, tuple(levels))


def _highest(evidence: Sequence[Evidence]) -> Level:
    return max((each.level for each in evidence), default=Level.NONE)


def _summary(evidence: Sequence[Evidence], turns: tuple[Level, ...]) -> Screening:
    level = _highest(evidence)
    counted = sorted((each for each in evidence if each.level), key=lambda each: -each.level)
    kinds = {kind for each in counted for kind in each.kinds}
    frames = [each for each in evidence if each.signals & STEERING]
    sure = any(each.sure for each in counted if each.level == level)
    return Screening(
        level=level,
        kinds=tuple(kind for kind in KINDS if kind in kinds),
        evidence=tuple(dict.fromkeys(map(str, [*counted, *frames]))) if level else (),
        unsure=bool(level) and (not sure or bool(frames)),
        turns=turns,
        rules=level,
    )
