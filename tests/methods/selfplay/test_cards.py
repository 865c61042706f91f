"""Patient cards: the formats they come in, the text of the symptom, and the shipped set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.methods.selfplay.cards import CARDS, STYLES, Card, CoreBeliefs, hidden_fields, read_cards, symptom_text
from strop.records.tables import read_table, write_table

PUBLISHED: dict[str, Any] = {
    "name": "Robin",
    "id": "7-1",
    "type": ["guarded", "go off on tangents"],
    "history": "Robin grew up on a farm. ",
    "helpless_belief": ["I am weak."],
    "unlovable_belief": [],
    "worthless_belief": [],
    "intermediate_belief": "Work comes first.",
    "intermediate_belief_depression": "Rest is a failure.",
    "coping_strategies": "Works at night.",
    "situation": "The barn door broke.",
    "auto_thought": "It's my fault.",
    "emotion": ["sad, down, lonely", "it's hopeless"],
    "behavior": "Robin hid in the barn.",
}
"""A card in the published layout, written by hand; the blank at the end of the history is on purpose."""

RELEASED_TEXT = (
    "Patient History: Robin grew up on a farm. \n"
    "\n"
    "Cognitive Conceptualization Diagram:\n"
    "Intermediate Beliefs: Work comes first.\n"
    "Intermediate Beliefs during Depression: Rest is a failure.\n"
    "Coping Strategies: Works at night.\n"
    "\n"
    "The experience in a week.\n"
    "Situation: The barn door broke.\n"
    "Automatic Thoughts: It's my fault.\n"
    "Emotions: ['sad, down, lonely', \"it's hopeless\"]\n"
    "Behavior: Robin hid in the barn."
)
"""Its symptom as the released records write it."""


def _read(tmp_path: Path, *rows: dict[str, Any]) -> list[Card]:
    path = tmp_path / "cards.json"
    path.write_text(json.dumps(list(rows)), encoding="utf-8")
    return read_cards(path)


def test_a_published_card_is_read(tmp_path: Path) -> None:
    (card,) = _read(tmp_path, PUBLISHED)
    assert card.core_beliefs == CoreBeliefs(helpless=("I am weak.",))
    assert card.styles == ("guarded", "go off on tangents")
    assert card.history == "Robin grew up on a farm. "
    assert card.condition == ""


def test_the_symptom_is_the_released_text_byte_for_byte(tmp_path: Path) -> None:
    (card,) = _read(tmp_path, PUBLISHED)
    assert symptom_text(card, emotions="repr").encode() == RELEASED_TEXT.encode()


def test_the_symptom_joins_emotions(tmp_path: Path) -> None:
    (card,) = _read(tmp_path, PUBLISHED)
    assert symptom_text(card).splitlines()[-2] == "Emotions: sad, down, lonely, it's hopeless"


def test_the_first_published_card_names_core_beliefs_differently(tmp_path: Path) -> None:
    row = {name: value for name, value in PUBLISHED.items() if not name.endswith("_belief") or name.startswith("inter")}
    (card,) = _read(
        tmp_path, {**row, "helpless_belief_current": ["I fail."], "worthless_belief_current": ["I am bad."]}
    )
    assert card.core_beliefs == CoreBeliefs(helpless=("I fail.",), worthless=("I am bad.",))


def test_a_card_like_the_public_examples(tmp_path: Path) -> None:
    """No beliefs during depression, and the six styles by other words."""
    row = {**PUBLISHED, "type": ["plain", "verbose", "tangent", "upset", "reserved", "pleasing"]}
    del row["intermediate_belief_depression"]
    (card,) = _read(tmp_path, row)
    assert set(card.styles) == set(STYLES)
    assert card.intermediate_belief_depression == ""
    assert "during Depression" not in symptom_text(card)
    assert "intermediate_belief_depression" not in hidden_fields(card)


def test_the_public_examples(shared_data: Path) -> None:
    cards = read_cards(shared_data / "mental_arena" / "patients" / "abe_profiles.json")
    assert [card.id for card in cards] == ["1-1", "1-2", "1-3"]
    assert {card.name for card in cards} == {"Abe"}
    assert all(set(card.styles) == set(STYLES) for card in cards)


def test_the_published_set(published_data: Path) -> None:
    """106 cards; each reproduces a stored symptom byte for byte."""
    files = sorted(published_data.rglob("Patient-Psi-CM_dataset.json"))
    if not files:
        pytest.skip("no Patient-Psi-CM_dataset.json there")
    cards = read_cards(files[0])
    stored = {row["symptom"] for path in published_data.rglob("gpt/iter1/*.jsonl") for row in read_table(path)}
    assert len(cards) == 106
    if stored:
        assert {symptom_text(card, emotions="repr") for card in cards} <= stored


@pytest.mark.parametrize(
    "name",
    ["name", "history", "intermediate_belief", "coping_strategies", "situation", "auto_thought", "behavior", "emotion"],
)
def test_a_missing_or_empty_field_is_named_with_its_card(tmp_path: Path, name: str) -> None:
    for broken in ({key: value for key, value in PUBLISHED.items() if key != name}, {**PUBLISHED, name: " "}):
        with pytest.raises(UserError, match=rf"card 2, id '7-2': '{name}'"):
            _read(tmp_path, PUBLISHED, {**broken, "id": "7-2"})


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("history", 3, "must be text"),
        ("emotion", [], "is empty"),
        ("emotion", ["sad", 3], "list of texts"),
        ("helpless_belief", {"a": 1}, "list of texts"),
        ("type", ["silent"], "no such style"),
        ("id", "", "has no 'id'"),
        ("id", True, "has no 'id'"),
    ],
)
def test_a_field_of_another_kind(tmp_path: Path, field: str, value: object, told: str) -> None:
    with pytest.raises(UserError, match=told):
        _read(tmp_path, {**PUBLISHED, field: value})


def test_two_cards_of_one_id(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two cards have one id"):
        _read(tmp_path, PUBLISHED, PUBLISHED)


def test_no_card(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no card"):
        _read(tmp_path)


def test_hidden_fields_hold_all_but_name_style_and_condition(tmp_path: Path) -> None:
    (card,) = _read(tmp_path, {**PUBLISHED, "condition": "a condition", "unlovable_belief": ["Nobody stays."]})
    hidden = hidden_fields(card)
    assert set(hidden) == {
        *("history", "helpless_belief", "unlovable_belief", "intermediate_belief", "intermediate_belief_depression"),
        *("coping_strategies", "situation", "auto_thought", "emotion", "behavior"),
    }
    assert "a condition" not in " ".join(hidden.values())


@given(
    texts=st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip), min_size=7, max_size=7
    ),
    lists=st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)),
        min_size=4,
        max_size=4,
    ),
)
def test_a_card_survives_the_disk(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], lists: list[list[str]]
) -> None:
    name, history, belief, coping, situation, thought, behavior = texts
    beliefs = CoreBeliefs(*map(tuple, lists[:3]))
    emotions = tuple(lists[3]) or ("sad",)
    card = Card("1", name, STYLES, history, beliefs, belief, "", coping, situation, thought, emotions, behavior)
    path = tmp_path_factory.mktemp("cards") / "cards.jsonl"
    write_table(path, [card.to_row()])
    assert read_cards(path) == [card]


def test_the_shipped_cards() -> None:
    cards = read_cards()
    assert len(cards) >= 26
    assert len({card.condition for card in cards}) >= 8
    assert len({card.name for card in cards}) == len(cards)
    assert {style for card in cards for style in card.styles} == set(STYLES)
    for beliefs in ("helpless", "unlovable", "worthless"):
        assert sum(bool(getattr(card.core_beliefs, beliefs)) for card in cards) >= 10


def test_the_shipped_cards_are_rich_and_of_their_own() -> None:
    cards = read_cards()
    fields = ("intermediate_belief", "intermediate_belief_depression", "coping_strategies", "situation", "behavior")
    for card in cards:
        assert 60 <= len(card.history.split()) <= 120, card.id
        for name in (*fields, "automatic_thought"):
            assert 20 <= len(getattr(card, name).split()) <= 60, (card.id, name)
    texts = [text for card in cards for text in hidden_fields(card).values() if len(text.split()) > 8]
    assert len(set(texts)) == len(texts)


def test_no_shipped_card_names_its_condition_or_a_number_to_call() -> None:
    for row in read_table(CARDS):
        told = json.dumps({name: value for name, value in row.items() if name not in ("condition", "id")}).lower()
        assert row["condition"].lower() not in told
        assert not any(len(word.strip("+-/.,")) > 4 and word.strip("+-/.,").isdigit() for word in told.split())
