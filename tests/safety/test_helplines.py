"""The table of helplines, and telephone numbers in texts."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.safety.helplines import (
    REMOVED,
    UNVERIFIED,
    helplines,
    numbers_not_in_table,
    read_helplines,
    without_unknown_numbers,
)


def test_every_line_has_a_number_a_source_and_an_honest_date() -> None:
    table = read_helplines()
    date.fromisoformat(table.written)
    assert len(table.lines) >= 20
    for line in helplines():
        assert line.numbers
        assert line.source.startswith("https://")
        assert line.checked == UNVERIFIED or date.fromisoformat(line.checked)
        assert all(numbers_not_in_table(f"call {number}") == () for number in line.numbers)
    assert all(table.emergency[country] for country in table.lines)
    assert {directory.url for directory in table.directories} >= {"https://findahelpline.com"}


def test_by_country() -> None:
    assert {line.country for line in helplines("us")} == {"US"}
    assert "116 123" in {number for line in helplines("UK") for number in line.numbers}
    assert "Lifeline" in {line.name for line in helplines("AU")}


def test_an_unknown_country_leads_to_the_directories() -> None:
    with pytest.raises(UserError, match=r"findahelpline\.com"):
        helplines("XX")


def test_a_line_without_a_source_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lines.yaml"
    path.write_text(
        "version: 1\nwritten: 2026-01-01\ndirectories: []\ncountries:\n  - country: XX\n    dialling: '9'\n"
        "    emergency: ['112']\n    lines:\n      - {name: A, numbers: ['1'], how: call, hours: 24/7, checked: x}\n",
        encoding="utf-8",
    )
    with pytest.raises(UserError, match="lacks fields"):
        read_helplines(path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Call the Lifeline on 1-800-273-8255.", ("1-800-273-8255",)),
        ("call me on (555) 123-4567", ("(555) 123-4567",)),
        ("+44 20 7946 0958", ("+44 20 7946 0958",)),
        ("text HELLO to 123456", ("123456",)),
        ("call 988 or 12345", ("12345",)),
        ("1-800-SUICIDE", ("1-800-SUICIDE",)),
        ("call five five five one two three four", ("five five five one two three four",)),
        ("call \N{ARABIC-INDIC DIGIT FIVE}55 123 4567", ("\N{ARABIC-INDIC DIGIT FIVE}55 123 4567",)),
        ("Ring 020 7946 0958 or 020 7946 0959", ("020 7946 0958", "020 7946 0959")),
    ],
)
def test_numbers_that_the_table_does_not_have(text: str, found: tuple[str, ...]) -> None:
    assert numbers_not_in_table(text) == found
    assert REMOVED in without_unknown_numbers(text)
    assert numbers_not_in_table(without_unknown_numbers(text)) == ()


@pytest.mark.parametrize(
    "text",
    [
        "Call or text 988, or dial 911.",
        "Samaritans: 116 123. Lifeline 13 11 14. TelefonSeelsorge 0800 111 0 111.",
        "+44 116 123",
        "call nine eight eight",
        "I was born in 1987 and moved in 2019-2023.",
        "We met on 12/05/2024 at 10:30, and again on 2024-06-01.",
        "24/7, 50 mg twice a day, 1,000,000 people, $12345678, 37.5 degrees",
        "Breathe in 1, 2, 3, 4, and out 5, 6, 7, 8, 9.",
        "The 5-4-3-2-1 exercise helps.",
        "I called 100 people and recall 1234 of them.",
        "see https://example.org/2016/03/1234567890",
        "call in 1990",
        "",
    ],
)
def test_other_digits_are_no_telephone_numbers(text: str) -> None:
    assert numbers_not_in_table(text) == ()
    assert without_unknown_numbers(text) == text


@given(st.text(max_size=200))
def test_nothing_is_left_that_was_found(text: str) -> None:
    assert numbers_not_in_table(without_unknown_numbers(text)) == ()


def test_long_runs_of_digits_are_read_in_one_pass() -> None:
    assert len(numbers_not_in_table("call " + "1 2 3 - " * 20_000)) == 1
