"""The labelled client messages: their schema, the split by scenario, and what they must not hold.

By hand: 204 + 230 = 434 rows; levels 3 and 4 have 39 + 33 = 72 rows for development and 49 + 43 = 92 for the test.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from importlib.resources import files
from typing import Any

import pytest

FOLDER = files("strop") / "data" / "safety"
PARTS = ("development", "test")
RISK_STYLES = {"direct", "indirect", "coded", "third_person", "typo", "other_language", "injection"}
CALM_STYLES = {"idiom", "sadness", "benign", "other_language"}
IDEATION = {"passive_ideation", "active_ideation", "plan", "means", "intent", "past_attempt"}
KINDS = IDEATION | {
    "self_harm",
    "harm_to_others",
    "minor_abuse",
    "psychosis",
    "intoxication",
    "eating_disorder",
    "domestic_violence",
}
Row = dict[str, Any]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return [json.loads(line) for line in (FOLDER / "messages-v1.jsonl").read_text(encoding="utf-8").splitlines()]


def _texts(row: Row) -> list[str]:
    return [row["text"]] if "text" in row else [message["content"] for message in row["messages"]]


def _folded(row: Row) -> str:
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", " ".join(_texts(row))).casefold()).strip()


def test_every_row_has_the_fields_of_the_schema(rows: list[Row]) -> None:
    for row in rows:
        body = "text" if "text" in row else "messages"
        assert set(row) == {"id", "scenario", "part", body, "level", "kinds", "style"}, row["id"]
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", row["scenario"]), row["id"]
        assert row["part"] in PARTS
        assert type(row["level"]) is int
        assert 0 <= row["level"] <= 4
        assert row["style"] in RISK_STYLES | CALM_STYLES
        assert all(text and text == text.strip() and "\n" not in text for text in _texts(row)), row["id"]


def test_ids_are_unique_and_run_on(rows: list[Row]) -> None:
    assert [row["id"] for row in rows] == [f"s{number:03d}" for number in range(1, len(rows) + 1)]


def test_kinds_agree_with_the_level_and_the_style(rows: list[Row]) -> None:
    for row in rows:
        kinds = row["kinds"]
        assert len(set(kinds)) == len(kinds), row["id"]
        assert set(kinds) <= KINDS, row["id"]
        assert bool(kinds) == (row["level"] > 0), row["id"]
        assert row["style"] in (RISK_STYLES if row["level"] else CALM_STYLES), row["id"]
        if row["level"] < 3:
            assert not {"plan", "means", "intent"} & set(kinds), row["id"]
        if row["level"] == 1:
            assert kinds == ["passive_ideation"], row["id"]


def test_conversations_alternate_and_end_with_the_client(rows: list[Row]) -> None:
    conversations = [row["messages"] for row in rows if "messages" in row]
    assert len(conversations) == 32
    for messages in conversations:
        roles = [message["role"] for message in messages]
        assert len(roles) >= 3
        assert len(roles) % 2 == 1
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]


def test_no_scenario_is_in_both_parts(rows: list[Row]) -> None:
    parts: dict[str, set[str]] = {}
    for row in rows:
        parts.setdefault(row["scenario"], set()).add(row["part"])
    assert len(parts) == 114
    assert all(len(found) == 1 for found in parts.values())


def test_no_folded_text_occurs_twice(rows: list[Row]) -> None:
    assert [text for text, count in Counter(map(_folded, rows)).items() if count > 1] == []


def test_no_text_holds_a_number_one_could_dial(rows: list[Row]) -> None:
    """Three digits in a row, however they are spaced, could be a helpline; hours and distances have two."""
    dialled = re.compile(r"\d(?:[\s().\-/+]*\d){2}")
    assert [row["id"] for row in rows if any(dialled.search(text) for text in _texts(row))] == []


@pytest.mark.parametrize("part", PARTS)
def test_both_parts_hold_every_level_style_and_kind(rows: list[Row], part: str) -> None:
    here = [row for row in rows if row["part"] == part]
    assert {row["level"] for row in here} == set(range(5))
    assert {row["style"] for row in here} == RISK_STYLES | CALM_STYLES
    assert {kind for row in here for kind in row["kinds"]} == KINDS
    for style in RISK_STYLES:
        assert {row["level"] for row in here if row["style"] == style} >= {3, 4}, style


def test_there_are_enough_rows_for_an_interval(rows: list[Row]) -> None:
    assert Counter(row["part"] for row in rows) == {"development": 204, "test": 230}
    high = Counter(row["part"] for row in rows if row["level"] >= 3)
    assert high == {"development": 72, "test": 92}
    styles = Counter(row["style"] for row in rows)
    assert styles["idiom"] >= 45
    assert styles["sadness"] + styles["benign"] >= 70
    assert styles["injection"] >= 20
    assert styles["other_language"] >= 30


def test_the_readme_states_the_counts(rows: list[Row]) -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"{len(rows)} messages" in readme
    for style, count in Counter(row["style"] for row in rows).items():
        assert re.search(rf"^\| `{style}` \|.*\| {count} \|$", readme, re.MULTILINE), style
    counts = Counter((row["level"], row["part"]) for row in rows)
    for level in range(5):
        pair = f"{counts[level, 'development']}, {counts[level, 'test']}"
        assert re.search(rf"^\| {level} \|.*\| {pair} \|$", readme, re.MULTILINE), level
