"""The language of the patterns, and the shipped file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from strop.errors import UserError
from strop.safety.matching import find
from strop.safety.patterns import Patterns, read_patterns
from strop.safety.text import plain_form


def patterns(folder: Path, phrase: str, **more: Any) -> Patterns:
    values = {
        "name": "test",
        "version": 1,
        "spellings": "dont = do not",
        "lists": {"self": "myself\nher self"},
        "idioms": "exam is killing me",
        "denials": "not",
        "groups": [
            {"name": "g", "level": 2, "kinds": ["plan"], "phrases": phrase, **more},
            {"name": "place", "phrases": "bridge"},
        ],
        "answers": [],
        "combinations": [{"name": "both", "when": ["g", "place"], "within": 40, "level": 4, "kinds": ["means"]}],
    }
    path = folder / f"p{abs(hash((phrase, str(more))))}.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return read_patterns(path)


@pytest.mark.parametrize(
    ("phrase", "text", "matches"),
    [
        ("kill|end <self>", "I will end her self", True),
        ("kill <self>", "kill him", False),
        ("kill <self>", "skill myself", False),
        ("kill .. <self>", "kill the poor myself", True),
        ("kill .. <self>", "kill the poor old myself", False),
        ("kill ... <self>", "kill. Then myself", False),
        ("kill [off] <self>", "kill off myself", True),
        ("suicid*", "suicidality", True),
        ("take # pills", "take 20 pills", True),
        ("take # pills", "take twenty pills", True),
        ("take # pills", "take the pills", False),
        ("which bridge ?", "Which bridge?", True),
        ("which bridge ?", "Which bridge.", False),
        ("^ yes", "Yes", True),
        ("^ yes", "oh yes", False),
        ("a_few pills", "a few pills", True),
        ("do not stop", "don't stop", True),
        ("do not stop", "dont stop", True),
    ],
)
def test_phrases(tmp_path: Path, phrase: str, text: str, matches: bool) -> None:
    compiled = patterns(tmp_path, phrase)
    found = find(plain_form(text, compiled.spellings), compiled)
    assert ("g" in {each.name for each in found}) is matches


def test_idioms_are_blanked_out_and_the_rest_is_read(tmp_path: Path) -> None:
    compiled = patterns(tmp_path, "killing me")
    assert find(" the exam is killing me . ", compiled) == []
    assert len(find(" the exam is killing me . he is killing me ", compiled)) == 1


def test_a_denied_phrase_is_a_mention_of_which_the_screen_is_unsure(tmp_path: Path) -> None:
    compiled = patterns(tmp_path, "kill <self>", negatable=True)
    (denied,) = find(" i would not want to kill myself ", compiled)
    assert (denied.name, denied.level, denied.sure) == ("denied g", 1, False)
    (stopped,) = find(" i can not stop it . kill myself ", compiled)
    assert stopped.level == 2


def test_combinations_need_their_signals_near_each_other(tmp_path: Path) -> None:
    compiled = patterns(tmp_path, "jump")
    assert max(each.level for each in find(" jump off the bridge ", compiled)) == 4
    far = " jump" + " word" * 20 + " bridge "
    assert max(each.level for each in find(far, compiled)) == 2


@pytest.mark.parametrize(
    ("phrase", "more", "message"),
    [
        ("kill <nobody>", {}, "no such list"),
        ("kill |", {}, "says nothing"),
        ("kill", {"level": 7}, "no such level"),
        ("kill", {"kinds": ["joy"]}, "no such kind"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path: Path, phrase: str, more: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        patterns(tmp_path, phrase, **more)


def test_the_shipped_file_compiles_and_names_no_group_twice() -> None:
    shipped = read_patterns()
    names = [each.name for each in (*shipped.groups, *shipped.answers)] + [each.name for each in shipped.combinations]
    assert len(names) == len(set(names))
    assert {kind for group in shipped.groups for kind in group.kinds} >= {"plan", "means", "self_harm", "psychosis"}
    assert all(group.phrases for group in shipped.groups)
