"""The library of behaviour principles, ours and in the released layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from strop.errors import UserError
from strop.methods.selfplay.behaviours import read_behaviours
from strop.methods.selfplay.cards import hidden_fields, read_cards


def _write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_the_released_layout(tmp_path: Path) -> None:
    found = read_behaviours(_write(tmp_path / "roleplay.json", {"0": ["Hesitate. ", "Doubt."], "1": ["Agree."]}))
    assert (found.name, found.version) == ("roleplay", "")
    assert found.groups == {"0": ("Hesitate.", "Doubt."), "1": ("Agree.",)}
    assert found.titles == {}


def test_our_layout(tmp_path: Path) -> None:
    content = {"name": "mine", "version": "3", "groups": {"shy": {"title": "Is shy", "principles": ["Whisper."]}}}
    found = read_behaviours(_write(tmp_path / "mine.json", content))
    assert (found.name, found.version) == ("mine", "3")
    assert (found.groups, found.titles) == ({"shy": ("Whisper.",)}, {"shy": "Is shy"})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is no JSON"),
        ("[]", "is a JSON object"),
        ("{}", "is a JSON object"),
        ({"groups": {}}, "has no group"),
        ({"0": []}, "group '0' must hold a list"),
        ({"0": "Hesitate."}, "group '0' must hold a list"),
        ({"0": ["Hesitate.", " "]}, "group '0': a principle must be text"),
        ({"0": [3]}, "group '0': a principle must be text"),
    ],
)
def test_what_is_no_library(tmp_path: Path, content: object, told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_behaviours(_write(tmp_path / "broken.json", content))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_behaviours(tmp_path / "absent.json")


def test_the_shipped_library() -> None:
    library = read_behaviours()
    principles = [text for texts in library.groups.values() for text in texts]
    assert len(library.groups) >= 21
    assert len(principles) >= 84
    assert len(set(principles)) == len(principles)
    assert library.version == "1"
    assert set(library.titles) == set(library.groups)
    assert len(set(library.titles.values())) == len(library.groups)


def test_no_principle_holds_a_card_or_a_condition() -> None:
    """No six words in a row of any card, no name and no condition."""
    told = " ".join(text for texts in read_behaviours().groups.values() for text in texts).lower()
    for card in read_cards():
        assert card.name.lower() not in told
        assert card.condition.lower() not in told
        for text in hidden_fields(card).values():
            words = text.lower().split()
            assert not any(" ".join(words[place : place + 6]) in told for place in range(len(words) - 5))
