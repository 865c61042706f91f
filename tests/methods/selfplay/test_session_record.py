"""The record of a session as a row, there and back."""

from __future__ import annotations

import json

import pytest

from strop.errors import UserError
from strop.methods.selfplay.session_record import Decoding, Discarded, Failure, PlanTry, SessionRecord, Turn

RECORD = SessionRecord(
    id="1-1#2",
    card="1-1",
    pass_=2,
    iteration=1,
    status="partial",
    failure=Failure("call_failed", "no"),
    encoding={"group": "a", "principles": ["p"], "scores": {"a": 0.5}, "chosen_by": "judge"},
    dialogue=(Turn("patient", "Hm.", "length", 2),),
    ledger=(Discarded(0, "patient", "empty", ""),),
    decoding=(Decoding(0, {"x": "y"}, {"x": None}, {"x": False}, "Why?", ("leak",)),),
    exchanges=4,
    stopped="no_progress",
    diagnoses=("A", "B"),
    chosen=1,
    illness="B",
    treatments=(PlanTry("t", "e", "s", None),),
    symptom="S0",
)


def test_a_record_comes_back_from_its_row() -> None:
    row = json.loads(json.dumps(RECORD.to_row()))
    assert SessionRecord.from_row(row) == RECORD
    assert (row["pass"], row["failure"]) == (2, {"kind": "call_failed", "message": "no"})
    assert row["treatments"] == [{"plan": "t", "explanation": "e", "state": "s", "score": None}]
    assert row["decoding"][0]["similarities"] == {"x": None}
    assert "pass_" not in row


@pytest.mark.parametrize("change", [{"dialogue": [{"text": "x"}]}, {"treatments": 3}, {"failure": "x"}])
def test_a_row_that_is_no_record_is_named(change: dict[str, object]) -> None:
    with pytest.raises(UserError, match="row '1-1#2' is no record of a session"):
        SessionRecord.from_row({**RECORD.to_row(), **change})


def test_a_row_without_a_field_is_named() -> None:
    row = RECORD.to_row()
    del row["symptom"]
    with pytest.raises(UserError, match="symptom"):
        SessionRecord.from_row(row)
