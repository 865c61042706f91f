"""``strop judge rate`` and ``compare`` on files, with scripted models and a real store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from strop.cli.judge import app
from strop.errors import Stopped, UserError
from strop.judging.rubric import load_rubric
from strop.records.tables import read_table, write_table

KEYS = load_rubric("principles-v1").keys
GOOD = "GOOD: what weighs on you most?"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STROP_WORKSPACE", str(tmp_path / "runs"))
    write_table(
        tmp_path / "answers.jsonl", [{"id": n, "prompt": f"I feel lost {n}", "response": GOOD} for n in range(3)]
    )
    pairs = [{"prompt": f"I feel lost {n}", "better": GOOD, "worse": "Cheer up."} for n in range(3)]
    write_table(tmp_path / "pairs.jsonl", pairs)
    return tmp_path


def judge(folder: Path, script: dict[str, Any]) -> str:
    path = folder / "judge.yaml"
    path.write_text(yaml.safe_dump(script), encoding="utf-8")
    return f"scripted:{path}"


def invoke(*arguments: object) -> str:
    found = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.stdout


FAIR = {
    "rules": [
        {"pattern": r"RESPONSE A [0-9a-f]+ -----\n\| GOOD", "reply": "Verdict: A"},
        {"pattern": r"RESPONSE B [0-9a-f]+ -----\n\| GOOD", "reply": "Verdict: B"},
    ],
    "default": "Verdict: tie",
}


def test_rate_writes_a_row_for_each_response(folder: Path) -> None:
    script = {"default": "\n".join(f"{key}: 4" for key in KEYS)}
    out = folder / "ratings.jsonl"
    told = invoke(
        "rate", folder / "answers.jsonl", "--judge", judge(folder, script), "--rubric", "principles-v1", "--out", out
    )
    rows = read_table(out)
    assert [(row["id"], row["mean"], row["gate"]) for row in rows] == [(n, 4.0, "passed") for n in range(3)]
    assert "3 responses, 3 rated on every criterion" in told
    assert "WARNING: this judge is not qualified" in told


def test_rate_as_json_with_samples(folder: Path) -> None:
    write_table(folder / "sampled.jsonl", [{"id": "q", "prompt": "p", "responses": ["a", "b"]}])
    script = {"default": "Rating: 2"}
    told = invoke(
        "rate", folder / "sampled.jsonl", "--judge", judge(folder, script), "--rubric", "principles-v1", "--out",
        folder / "o.jsonl", "--mode", "each", "--json",
    )  # fmt: skip
    found = json.loads(told)
    assert (found["summary"]["n"], found["summary"]["mean"]["estimate"]) == (2, 2.0)
    assert found["summary"]["gate_failed"]["estimate"] == 1.0
    assert [row["id"] for row in read_table(folder / "o.jsonl")] == ["q#0", "q#1"]


def test_compare_judges_the_anchors_and_prints_the_drift_from_the_second_time_on(folder: Path) -> None:
    arguments = (
        "compare", folder / "pairs.jsonl", "--judge", judge(folder, FAIR), "--rubric", "principles-v1", "--out",
        folder / "compared.jsonl",
    )  # fmt: skip
    first, second = invoke(*arguments), invoke(*arguments)
    assert "3 pairs: first better 3, second better 0, ties 0, no verdict 0" in first
    assert "anchors" not in first
    assert "anchors: 0 of 10 verdicts changed" in second
    rows = read_table(folder / "compared.jsonl")
    assert [(row["verdict"], row["forward"], row["backward"]) for row in rows] == [("first",) * 3] * 3


def test_too_many_unreadable_replies_stop(folder: Path) -> None:
    with pytest.raises(Stopped, match="3 of 3 replies"):
        invoke(
            "rate", folder / "answers.jsonl", "--judge", judge(folder, {"default": "hm"}), "--rubric",
            "principles-v1", "--out", folder / "o.jsonl",
        )  # fmt: skip
    assert not (folder / "o.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rubric", "principles"), "no such rubric"),
        (("--rubric", "principles-v1", "--certificate", "none.json"), "certificate"),
        (("--rubric", "principles-v1", "--expected"), "weights are on this machine"),
    ],
)
def test_mistakes_are_told(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        invoke(
            "rate", folder / "answers.jsonl", "--judge", judge(folder, FAIR), "--out", folder / "o.jsonl", *arguments
        )


def test_a_model_without_a_rubric_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="judges by a rubric"):
        invoke("compare", folder / "pairs.jsonl", "--judge", judge(folder, FAIR), "--out", folder / "o.jsonl")
