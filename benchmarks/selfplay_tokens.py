"""Tokens that one patient takes, ours against the published pattern of calls, both with the same scripted players."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from selfplay_players import IMPROVED, WELL
from selfplay_sessions import ALL_PASS, NONE_PASSES, PROCEDURES, Script, patients, rehearse, sessions

Count = Callable[[str], int]
"""How many tokens a text has."""

SCRIPTS = {
    "all pass, plans good": (ALL_PASS, WELL),
    "all pass, plans poor": (ALL_PASS, IMPROVED),
    "none passes, plans good": (NONE_PASSES, WELL),
    "none passes, plans poor": (NONE_PASSES, IMPROVED),
}
"""How near every text is to the card, 4 exchanges or 9, and the score of every state, 1 plan of each kind or 7."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a session took.

    Attributes:
        calls: Requests.
        exchanges: How often the therapist asked and the patient answered.
        read: Tokens of all requests.
        written: Tokens of all answers.
        longest: Tokens of the longest request.
        status: Of the session's record.
    """

    calls: int
    exchanges: int
    read: int
    written: int
    longest: int
    status: str

    @property
    def total(self) -> int:
        """Tokens of all requests and answers."""
        return self.read + self.written


@dataclass(frozen=True, slots=True)
class Compared:
    """One script with one patient, by procedure."""

    script: str
    patient: str
    tokens: dict[str, Tokens]

    @property
    def ratio(self) -> float:
        """Ours over the published."""
        return self.tokens["strop"].total / self.tokens["published"].total


def smollm2() -> Count:
    """Return the counter of SmolLM2's tokens; each text is read once."""
    from tokenizers import Tokenizer

    from strop.models.builtin import SMOLLM2, builtin_folder

    tokenizer = Tokenizer.from_file(str(builtin_folder(SMOLLM2) / "tokenizer.json"))
    return lru_cache(maxsize=None)(lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids))


def tokens_of(script: Script, count: Count) -> Tokens:
    """Count a session's tokens: of the messages' texts, without the marks that a chat template puts around them."""
    assert script.record is not None
    read = [sum(map(count, told.contents)) for told in script.calls]
    written = sum(count(told.text) for told in script.calls)
    return Tokens(len(read), script.record.exchanges, sum(read), written, max(read), script.record.status)


def compare(count: Count, *, cards: int) -> list[Compared]:
    """Hold the session of each patient by both procedures, script by script."""
    drawn = patients(cards)
    found: list[Compared] = []
    for name, (matcher, score) in SCRIPTS.items():
        held = {
            procedure: [
                tokens_of(rehearse(episode, score=score), count)
                for episode in sessions(drawn, matcher=matcher, procedure=procedure)
            ]
            for procedure in PROCEDURES
        }
        for place, card in enumerate(drawn):
            found.append(Compared(name, card.id, {procedure: each[place] for procedure, each in held.items()}))
    return found


def of_script(found: Sequence[Compared], script: str) -> list[Compared]:
    """Return what was found for one script."""
    return [compared for compared in found if compared.script == script]
