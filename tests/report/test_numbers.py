"""Numbers as people read them, worked by hand."""

from __future__ import annotations

import pytest

from strop.records.document import Unit
from strop.report import Estimate
from strop.report.numbers import amount, cell, duration, interval


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.6604, "share", "66.0 %"),
        (1.0, "share", "100.0 %"),
        (0.6449, "ratio", "0.64"),
        (-0.1, "ratio", "\N{MINUS SIGN}0.10"),
        (0.031, "points", "+3.1"),
        (-0.031, "points", "\N{MINUS SIGN}3.1"),
        (1200, "count", "1,200"),
        (None, "share", "\N{EN DASH}"),
    ],
)
def test_amount(value: float | None, unit: Unit, shown: str) -> None:
    assert amount(value, unit) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.84, "0.8 s"),
        (59.94, "59.9 s"),
        (59.97, "1 min 0 s"),
        (125, "2 min 5 s"),
        (3599.6, "1 h 0 min"),
        (7260, "2 h 1 min"),
    ],
)
def test_duration(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_interval() -> None:
    assert interval(Estimate(0.66, 0.633, 0.686)) == "63.3 to 68.6"
    assert interval(Estimate(0.66)) == ""
    assert interval(Estimate(0.66, 0.633, None)) == ""


def test_cell() -> None:
    assert [cell(value) for value in (None, 2000, 0.12345, "dpo", Estimate(None))] == [
        "\N{EN DASH}",
        "2,000",
        "0.123",
        "dpo",
        "\N{EN DASH}",
    ]
