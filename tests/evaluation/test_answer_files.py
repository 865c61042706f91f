"""The shapes that answer files have, and what is said about those that have none of them."""

from __future__ import annotations

from typing import Any

import pytest

from strop.errors import UserError
from strop.evaluation.answer_files import Response, read_responses

NESTED = {
    "question": "q",
    "ground_truth": "2 + 2 = 4\nA: 4",
    "6b_finetuning": {"is_correct": True, "solution": "A: 4"},
    "175b_verification": {"is_correct": False, "solution": "A: 5"},
}


def _read(*rows: dict[str, Any], **fields: str) -> list[Response]:
    return list(read_responses(rows, {name: path.replace("__", ".") for name, path in fields.items()}))


def test_one_response_a_row() -> None:
    assert _read({"id": "a", "response": "#### 1", "gold": "1"}) == [Response("a", "#### 1", "1")]
    assert _read({"response": "x"}, {"response": "y"}) == [Response(0, "x"), Response(1, "y")]


def test_numbers_are_gold_too() -> None:
    assert [response.gold for response in _read({"response": "x", "gold": 4}, {"response": "x", "gold": 2.5})] == [
        "4",
        "2.5",
    ]


def test_a_missing_response_is_not_an_empty_one() -> None:
    assert _read({"response": None, "gold": "1"}) == [Response(0, None, "1")]


def test_several_responses_a_row() -> None:
    found = _read({"id": 7, "responses": ["x", "y"], "gold": "1"})
    assert [(one.id, one.sample, one.text, one.gold) for one in found] == [(7, 0, "x", "1"), (7, 1, "y", "1")]


def test_the_nested_example_file_is_expanded() -> None:
    found = _read(NESTED)
    assert [(one.model, one.text, one.published_result) for one in found] == [
        ("6b_finetuning", "A: 4", True),
        ("175b_verification", "A: 5", False),
    ]
    assert {one.gold for one in found} == {NESTED["ground_truth"]}


def test_dotted_paths_reach_into_objects() -> None:
    (one,) = _read(NESTED, response="6b_finetuning__solution", gold="ground_truth", result="6b_finetuning__is_correct")
    assert (one.text, one.gold, one.model, one.published_result) == ("A: 4", NESTED["ground_truth"], None, True)


def test_a_name_with_dots_comes_before_a_path() -> None:
    assert _read({"a.b": "flat", "a": {"b": "deep"}}, response="a__b")[0].text == "flat"


@pytest.mark.parametrize(
    ("row", "fields", "message"),
    [
        ({"answer": "x"}, {}, "row 1: there is no response"),
        ({"response": 4}, {}, "row 1: a response must be text"),
        ({"responses": "x"}, {}, "must be a list"),
        ({"responses": ["x", 4]}, {}, "a response must be text"),
        ({"id": 1.5, "response": "x"}, {}, "an id must be"),
        ({"response": "x", "gold": ["1"]}, {}, "a gold answer must be"),
        ({"response": "x", "gold": True}, {}, "a gold answer must be"),
        (NESTED, {"response": "7b__solution"}, "no field '7b.solution'"),
    ],
)
def test_broken_rows_are_named(row: dict[str, Any], fields: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        _read(row, **fields)
