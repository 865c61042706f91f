"""The schema of report.json: what it refuses, what it keeps, what it replaces."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from strop.errors import UserError
from strop.report import JSON_NAME, Answer, Document, Estimate, Number, Product, read_report, write_report


def test_round_trip(document: Document, tmp_path: Path) -> None:
    write_report(document, tmp_path)
    assert read_report(tmp_path) == document


def test_numbers_have_the_shape_that_trace_reads(document: Document, tmp_path: Path) -> None:
    write_report(document, tmp_path)
    numbers = json.loads((tmp_path / JSON_NAME).read_text(encoding="utf-8"))["numbers"]
    assert {"name", "value", "artifact", "file"} <= set(numbers[0])
    assert numbers[-1]["value"] is None, "a missing number is null, never zero"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "many"])
def test_a_number_is_finite(value: Any) -> None:
    with pytest.raises(ValidationError):
        Number("accuracy", value, artifact="evaluate", file="graded.jsonl")


def test_number_names_are_unique(document: Document) -> None:
    with pytest.raises(ValueError, match=r"gap_recovered\.stage_2"):
        replace(document, numbers=(*document.numbers, document.numbers[0]))


def test_products_have_unique_names_that_are_names_of_folders(document: Document) -> None:
    with pytest.raises(ValueError, match="product names must be unique"):
        replace(document, products=(Product("dpo", "model", "a"), Product("dpo", "pairs", "b")))
    for name in ("", "../dpo", "a/b", ".hidden", "Upper", "a b"):
        with pytest.raises(ValidationError):
            Product(name, "model", "a")


def test_unshowable_text_is_replaced() -> None:
    """Control characters, direction overrides and lone surrogates are; line breaks, tabs and other scripts are not."""
    assert Answer("weak", "a\x00b\u202ec\ud800d").text == "a\ufffdb\ufffdc\ufffdd"
    assert Answer("weak", "línea\n\tعربي 答え").text == "línea\n\tعربي 答え"


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_survives_the_file(text: str) -> None:
    answer = Answer("weak", text)
    adapter = TypeAdapter(Answer)
    assert adapter.validate_json(adapter.dump_json(answer)) == answer


def test_a_missing_report_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no report yet"):
        read_report(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"title": 1}', '{"schema_version": 2}'])
def test_a_foreign_report_says_what_to_do(content: str, tmp_path: Path) -> None:
    (tmp_path / JSON_NAME).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match="not a report of this version"):
        read_report(tmp_path)


def test_estimates_keep_their_type_in_table_cells(document: Document, tmp_path: Path) -> None:
    write_report(document, tmp_path)
    row = read_report(tmp_path).tables[0].rows[0]
    assert [type(cell) for cell in row] == [str, Estimate, Estimate, int, str]
