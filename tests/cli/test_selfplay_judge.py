"""``strop selfplay judge`` as a person types it, with a scripted judge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from strop.cli.main import run
from strop.records.tables import read_table, write_table

SCRIPT = """
rules:
  - {pattern: zqsmooth, reply: "Too smooth. Verdict: AI"}
  - {pattern: zqplain, reply: "Verdict: human"}
  - {pattern: zqgood, reply: "Verdict: yes"}
default: Hm.
"""


@pytest.fixture
def judge(tmp_path: Path) -> list[str]:
    (tmp_path / "judge.yaml").write_text(SCRIPT, encoding="utf-8")
    return ["--judge", f"scripted:{tmp_path / 'judge.yaml'}", "--workspace", str(tmp_path / "runs"), "--ceiling", "1"]


def talk(number: int, word: str, author: str | None, *, turns: int = 4) -> dict[str, object]:
    said = [{"speaker": ("patient", "therapist")[turn % 2], "text": f"{word} {number} {turn}"} for turn in range(turns)]
    return {"id": number, "turns": said, "author": author}


def test_shares_by_author(tmp_path: Path, judge: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Of two talks of an AI one passes for people's, of two of people one was not judged: 1 of 2, 1 of 1, 2 of 3."""
    rows = [talk(1, "zqsmooth", "ai"), talk(2, "zqplain", "ai"), talk(3, "zqplain", "people"), talk(4, "?", "people")]
    write_table(tmp_path / "talks.jsonl", rows)
    out = tmp_path / "verdicts.jsonl"
    typed = ["selfplay", "judge", str(tmp_path / "talks.jsonl"), *judge, "--question", "authenticity"]
    assert run([*typed, "--out", str(out), "--json"]) == 0
    shares = json.loads(capsys.readouterr().out)["shares"]
    assert {by: (each["rows"], each["unread"], each["share"]) for by, each in shares.items()} == {
        "ai": (2, 0, 0.5),
        "people": (2, 1, 1.0),
        "all": (4, 1, pytest.approx(2 / 3)),
    }
    assert [row["verdict"] for row in read_table(out)] == ["ai", "human", "human", None]


def test_one_author_says_nothing_of_another(
    tmp_path: Path, judge: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"id": 1, "prompt": "What helps?", "response": "zqgood"}, {"id": 2, "prompt": "What?", "response": "Hm"}]
    write_table(tmp_path / "answers.jsonl", rows)
    typed = ["selfplay", "judge", str(tmp_path / "answers.jsonl"), *judge, "--question", "validity", "--quiet"]
    assert run([*typed, "--out", str(tmp_path / "out.jsonl")]) == 0
    told = capsys.readouterr().out
    assert "100.0%" in told
    assert "One kind of author only" in told


def test_talks_that_are_too_short(tmp_path: Path, judge: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    write_table(tmp_path / "talks.jsonl", [talk(1, "zqplain", None, turns=2)])
    typed = ["selfplay", "judge", str(tmp_path / "talks.jsonl"), *judge, "--question", "authenticity"]
    assert run([*typed, "--out", str(tmp_path / "out.jsonl")]) == 2
    assert "row 1: a talk needs at least 4 turns" in capsys.readouterr().err
