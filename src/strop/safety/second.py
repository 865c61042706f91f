"""A second opinion on risk: any callable, with a time limit that holds; its failure is a reason to escalate."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from strop.errors import UserError
from strop.safety.levels import Level

Second = Callable[[str], Level]
"""Given the conversation as text (``client: ...`` and ``reply: ...`` lines), says the level."""


@dataclass(frozen=True, slots=True)
class SecondOpinion:
    """What a second opinion said.

    Attributes:
        level: The level; None where there is no readable answer.
        failure: Why there is none.
    """

    level: Level | None
    failure: str | None = None


def ask(second: Second, text: str, *, timeout: float) -> SecondOpinion:
    """Ask for a second opinion; an error, a late or an unreadable answer is a failure, never a level.

    Args:
        second: What is asked. One that does not return is left behind in its thread, which ends with the process.
        text: The conversation.
        timeout: Seconds, above 0.

    Raises:
        UserError: The time limit is not above 0.
    """
    if not timeout > 0:
        raise UserError("the time limit of a second opinion must be above 0 seconds", value=timeout)
    answers: list[object] = []
    errors: list[str] = []

    def work() -> None:
        try:
            answers.append(second(text))
        except BaseException as error:
            errors.append(f"{type(error).__name__}: {error}"[:200])

    thread = threading.Thread(target=work, name="strop-second-opinion", daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        return SecondOpinion(None, f"no answer in {timeout:g} seconds")
    if errors or not answers:
        return SecondOpinion(None, errors[0] if errors else "no answer")
    answer = answers[0]
    if isinstance(answer, bool) or not isinstance(answer, int) or answer not in Level._value2member_map_:
        return SecondOpinion(None, f"unreadable answer: {answer!r}"[:200])
    return SecondOpinion(Level(answer))


def escalated(level: Level) -> Level:
    """Return the level that stands where a second opinion failed: one above the rules', at least `Level.ACTIVE`."""
    return max(Level.ACTIVE, Level(min(level + 1, Level.IMMINENT)))
