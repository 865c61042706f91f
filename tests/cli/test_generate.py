"""``strop generate``: prompts in, answers out; what is paid for is kept, whatever stops it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from strop.cli.main import run
from strop.records.tables import read_table, write_table
from strop.runs.store import CallStore
from strop.runs.workspace import store_path

PROMPTS = [{"id": f"q{number}", "prompt": f"what is {number}?"} for number in range(10)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with prompts and a script that has no answer to number 7."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STROP_WORKSPACE", raising=False)
    write_table(tmp_path / "prompts.jsonl", PROMPTS)
    (tmp_path / "script.yaml").write_text("rules: [{pattern: 'is [0-68-9]', replies: ['a b', 'c']}]")
    return tmp_path


def generate(*arguments: str) -> int:
    return run(["generate", "prompts.jsonl", "--model", "scripted:script.yaml", *arguments])


def test_answers_stand_in_the_order_of_the_prompts_and_failures_are_told(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate("--n", "2", "--out", "answers.jsonl", "--json") == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    rows = read_table(place / "answers.jsonl")
    assert [row["id"] for row in rows] == [f"q{number}" for number in range(10) if number != 7]
    assert rows[0] == {"id": "q0", "prompt": "what is 0?", "responses": ["a b", "c"]}
    assert (told["prompts"], told["answers"], told["failures"], told["asked"]) == (10, 18, {"no_reply": 2}, 18)
    failures = read_table(Path(told["run"]) / "stages" / "01-answers" / "failures.jsonl")
    assert [(row["id"], row["sample"], row["kind"]) for row in failures] == [
        ("q7", 0, "no_reply"),
        ("q7", 1, "no_reply"),
    ]


def test_a_second_time_costs_nothing_and_another_format_is_a_copy(place: Path) -> None:
    assert generate("--out", "answers.jsonl") == 0
    first = (place / "answers.jsonl").read_bytes()
    assert generate("--out", "answers.jsonl") == 0
    assert (place / "answers.jsonl").read_bytes() == first
    assert generate("--out", "answers.parquet") == 0
    assert read_table(place / "answers.parquet") == read_table(place / "answers.jsonl")
    with CallStore(store_path(place / "runs")) as store:
        assert store.sizes().calls == 9


def test_a_budget_leaves_what_is_complete_and_the_same_command_goes_on(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five calls at two a prompt: two prompts are complete, the third is not."""
    assert generate("--n", "2", "--out", "answers.jsonl", "--budget", "calls=5") == 3
    assert "answers.partial.jsonl" in capsys.readouterr().err
    assert not (place / "answers.jsonl").exists()
    assert [row["id"] for row in read_table(place / "answers.partial.jsonl")] == ["q0", "q1"]
    assert generate("--n", "2", "--out", "answers.jsonl") == 0
    assert not (place / "answers.partial.jsonl").exists()
    assert len(read_table(place / "answers.jsonl")) == 9


def test_a_pilot_tells_what_the_rest_will_take_and_keeps_its_answers(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every prompt has 3 words and every greedy answer 2: no spread, so the ranges are points."""
    assert generate("--out", "answers.jsonl", "--pilot", "4", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["calls"], told["stored"], told["asked"] + told["failed"], told["remaining"]) == (10, 0, 4, 6)
    assert told["rest"]["prompt_tokens"] == {"estimate": 18.0, "low": 18.0, "high": 18.0}
    assert told["rest"]["money"]["estimate"] == 0
    assert not (place / "answers.jsonl").exists()
    assert generate("--out", "answers.jsonl", "--pilot", "9", "--json") == 0
    assert json.loads(capsys.readouterr().out)["stored"] == told["asked"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "answers.txt"], "cannot tell the format"),
        (["--out", "a.jsonl", "--budget", "coins=5"], "no such budget"),
        (["--out", "a.jsonl", "--budget", "call=5"], "did you mean calls=5?"),
        (["--out", "a.jsonl", "--budget", "calls=0.5"], "must be a whole number above 0"),
        (["--out", "a.jsonl", "--budget", "money=nan"], "must be an amount above 0"),
        (["--out", "a.jsonl", "--fields", "prompt=text"], "no field 'text'"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_asked(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert generate(*arguments) == 2
    assert message in capsys.readouterr().err


def test_a_row_without_a_prompt_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(place / "prompts.jsonl", [*PROMPTS, {"id": 11, "prompt": 5}])
    assert generate("--out", "answers.jsonl") == 2
    assert "prompts.jsonl, row 11: a prompt must be text or a list of messages" in capsys.readouterr().err
