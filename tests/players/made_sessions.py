"""Session records for tests of what comes after the sessions."""

from __future__ import annotations

from typing import Any

from strop.methods.selfplay.session_record import Discarded, PlanTry, SessionRecord, Turn

WORDS = (
    *("sun", "rain", "wind", "snow", "road", "tree", "lake", "hill", "bird", "fish"),
    *("door", "lamp", "coat", "shoe", "bread", "milk", "song", "game", "walk", "sleep"),
)


def spoken(number: int, length: int = 12) -> str:
    """Return at most 20 different words, and others for every number."""
    return " ".join(f"{WORDS[(number * 7 + place * 3) % 20]}{number}" for place in range(length))


def record(card: int, *, pass_: int = 0, same: bool = False, **changes: Any) -> SessionRecord:
    """Return a session of a card; with `same`, everybody says and tries what everybody else does."""
    number = 0 if same else card * 10 + pass_
    given: dict[str, Any] = {
        "id": f"c{card}#{pass_}",
        "card": f"c{card}",
        "pass_": pass_,
        "iteration": 1,
        "status": "complete",
        "dialogue": (Turn("patient", spoken(number)), Turn("therapist", spoken(number + 5))),
        "exchanges": 4,
        "illness": "Panic Disorder" if same else ("Depression", "PTSD", "Insomnia", "Agoraphobia")[card % 4],
        "treatments": (PlanTry(f"Therapy of {spoken(number, 4)}", "why", "state", 5),),
        "medicines": (PlanTry(f"Medicine {spoken(number, 3)}", "why", "state", 7),),
        "treatment": "Therapy",
        "explain_t": "why",
        "medicine": "Medicine",
        "explain_m": "why",
        "decoded": "Sd",
        "symptom": "S0",
    }
    return SessionRecord(**{**given, **changes})


def discarded(turn: int, why: str = "repeats") -> Discarded:
    """Return an entry of the ledger."""
    return Discarded(turn, "patient", why, "text")
