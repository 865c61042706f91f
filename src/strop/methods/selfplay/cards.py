"""Patient cards: a cognitive conceptualisation (Beck 1995) of one patient and one situation of its week."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from strop.errors import UserError
from strop.records.tables import iter_table
from strop.runs.shipped import DATA

CARDS = DATA / "selfplay" / "cards-v1.jsonl"
STYLES = ("plain", "verbose", "go off on tangents", "guarded", "ingratiating", "hostile")
"""How a patient may talk (Patient-Psi); a card holds one or more of them, or none."""

# The public example cards of Patient-Psi name the same six styles by other words.
_STYLE_NAMES = {"tangent": "go off on tangents", "reserved": "guarded", "pleasing": "ingratiating", "upset": "hostile"}
_CLASSES = ("helpless", "unlovable", "worthless")


@dataclass(frozen=True, slots=True)
class CoreBeliefs:
    """What the patient believes about itself, in Beck's three classes; each may be empty."""

    helpless: tuple[str, ...] = ()
    unlovable: tuple[str, ...] = ()
    worthless: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Card:
    """One patient in one situation.

    Attributes:
        id: Unique in its file.
        name: What the patient is called.
        styles: How it talks, of `STYLES`; may be empty.
        history: Its past, and what led to the present trouble.
        core_beliefs: What it believes about itself; the released code never reads them, ours tells the patient.
        intermediate_belief: Rules, attitudes and assumptions it lives by.
        intermediate_belief_depression: What becomes of them when it is low; empty where the card has none.
        coping_strategies: How it copes.
        situation: A situation of the past week.
        automatic_thought: What went through its mind in it.
        emotions: What it felt.
        behavior: What it did.
        condition: What the author had in mind; part of no request, for evaluation only.
    """

    id: str
    name: str
    styles: tuple[str, ...]
    history: str
    core_beliefs: CoreBeliefs
    intermediate_belief: str
    intermediate_belief_depression: str
    coping_strategies: str
    situation: str
    automatic_thought: str
    emotions: tuple[str, ...]
    behavior: str
    condition: str = ""

    def to_row(self) -> dict[str, Any]:
        """Return the card under the names of the published format, and its condition."""
        beliefs = {f"{name}_belief": list(getattr(self.core_beliefs, name)) for name in _CLASSES}
        return {
            "id": self.id,
            "name": self.name,
            "type": list(self.styles),
            "history": self.history,
            **beliefs,
            "intermediate_belief": self.intermediate_belief,
            "intermediate_belief_depression": self.intermediate_belief_depression,
            "coping_strategies": self.coping_strategies,
            "situation": self.situation,
            "auto_thought": self.automatic_thought,
            "emotion": list(self.emotions),
            "behavior": self.behavior,
            "condition": self.condition,
        }


def read_cards(path: Path = CARDS) -> list[Card]:
    """Read cards: ours, one a line, or a list as Patient-Psi publishes it.

    Read as well: core beliefs under ``*_belief_current`` (the first card of Patient-Psi-CM), and cards without
    ``intermediate_belief_depression`` and with other names for the styles (the public example cards).

    Args:
        path: A table; the shipped cards by default.

    Raises:
        UserError: No card is there, a card lacks a field or has one of another kind, or two have one id.
    """
    cards: dict[str, Card] = {}
    for number, row in enumerate(iter_table(path), 1):
        card = _card(row, f"{path}: card {number}")
        if card.id in cards:
            raise UserError(f"{path}: two cards have one id", value=card.id, fix="give each card an id of its own")
        cards[card.id] = card
    if not cards:
        raise UserError("the file holds no card", value=str(path))
    return list(cards.values())


def symptom_text(card: Card, *, emotions: Literal["joined", "repr"] = "joined") -> str:
    """Return the encoded symptom S0 (section 3.3): the cognition of a card in the layout of the released records.

    Args:
        card: The patient.
        emotions: ``joined`` with commas, or ``repr``, the list as Python writes it: the released text byte for byte.
    """
    felt = repr(list(card.emotions)) if emotions == "repr" else ", ".join(card.emotions)
    depression = f"Intermediate Beliefs during Depression: {card.intermediate_belief_depression}"
    lines = [
        f"Patient History: {card.history}",
        "",
        "Cognitive Conceptualization Diagram:",
        f"Intermediate Beliefs: {card.intermediate_belief}",
        *([depression] if card.intermediate_belief_depression else []),
        f"Coping Strategies: {card.coping_strategies}",
        "",
        "The experience in a week.",
        f"Situation: {card.situation}",
        f"Automatic Thoughts: {card.automatic_thought}",
        f"Emotions: {felt}",
        f"Behavior: {card.behavior}",
    ]
    return "\n".join(lines)


def hidden_fields(card: Card) -> dict[str, str]:
    """Return what the therapist must find out and is never given, by its published name; empty fields left out.

    The name and the style are not among it, nor the condition, which is part of no request at all.
    """
    row = card.to_row()
    shown = ("id", "name", "type", "condition")
    texts = {name: " ".join(value) if isinstance(value, list) else value for name, value in row.items()}
    return {name: text for name, text in texts.items() if name not in shown and text.strip()}


def _card(row: Mapping[str, Any], where: str) -> Card:
    key = row.get("id")
    if isinstance(key, int) and not isinstance(key, bool):
        key = str(key)
    if not isinstance(key, str) or not key.strip():
        raise UserError(f"{where} has no 'id'", value=key)
    where = f"{where}, id {key!r}"
    return Card(
        id=key,
        name=_text(row, "name", where),
        styles=_styles(row, where),
        history=_text(row, "history", where),
        core_beliefs=CoreBeliefs(**{name: _beliefs(row, name, where) for name in _CLASSES}),
        intermediate_belief=_text(row, "intermediate_belief", where),
        intermediate_belief_depression=_text(row, "intermediate_belief_depression", where, needed=False),
        coping_strategies=_text(row, "coping_strategies", where),
        situation=_text(row, "situation", where),
        automatic_thought=_text(row, "auto_thought", where),
        emotions=_texts(row, "emotion", where, needed=True),
        behavior=_text(row, "behavior", where),
        condition=_text(row, "condition", where, needed=False),
    )


def _text(row: Mapping[str, Any], name: str, where: str, *, needed: bool = True) -> str:
    value = row.get(name)
    if value is None and not needed:
        return ""
    if not isinstance(value, str) or (needed and not value.strip()):
        raise UserError(f"{where}: {name!r} must be text", value=value, alternatives=() if name in row else sorted(row))
    # An absent text is one value, not two; every other one stays as it is, byte for byte.
    return value if value.strip() else ""


def _texts(row: Mapping[str, Any], name: str, where: str, *, needed: bool = False) -> tuple[str, ...]:
    value = row.get(name)
    if value is None and not needed:
        return ()
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(each, str) and each.strip() for each in listed):
        raise UserError(f"{where}: {name!r} must be a list of texts", value=value)
    if needed and not listed:
        raise UserError(f"{where}: {name!r} is empty", value=value)
    return tuple(listed)


def _beliefs(row: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    current, plain = f"{name}_belief_current", f"{name}_belief"
    return _texts(row, plain if row.get(plain) is not None else current, where)


def _styles(row: Mapping[str, Any], where: str) -> tuple[str, ...]:
    styles = tuple(_STYLE_NAMES.get(style, style) for style in _texts(row, "type", where))
    for style in styles:
        if style not in STYLES:
            raise UserError(f"{where}: no such style in 'type'", value=style, alternatives=STYLES)
    return styles
