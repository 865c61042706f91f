"""The verbs of reward models as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from strop.cli.main import run


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rows = [
        {
            "id": number,
            "prompt": f"i feel sad {number}",
            "better": "what do you need ?" if number % 3 else "sad",
            "worse": "you should work",
            "group": f"g{number % 8}",
            "source": "a" if number % 2 else "b",
        }
        for number in range(24)
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def test_evaluate_words(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Words prefer the better text in the 16 of 24 pairs where it has five words against three."""
    out = tmp_path / "report.json"
    assert run(["reward", "evaluate", str(pairs), "--reward", "words", "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["quality"]["overall"]["accuracy"]["estimate"] == pytest.approx(16 / 24)
    assert set(told["quality"]["slices"]["source"]) == {"a", "b"}
    assert json.loads(out.read_text(encoding="utf-8")) == told
    assert run(["reward", "evaluate", str(pairs), "--reward", "words"]) == 0
    assert "all pairs" in capsys.readouterr().out


def test_evaluate_a_folder(pairs: Path, tiny_reward: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reward", "evaluate", str(pairs), "--reward", str(tiny_reward), "--device", "cpu", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["quality"]["overall"]["pairs"] == 24
    assert len(told["revision"]) == 64


def test_a_model_that_gives_equal_scores_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "equal.jsonl"
    row = {"prompt": "p", "better": "one two", "worse": "three four"}
    file.write_text("".join(json.dumps({**row, "id": number}) + "\n" for number in range(4)), encoding="utf-8")
    assert run(["reward", "evaluate", str(file), "--reward", "words", "--json"]) == 2
    captured = capsys.readouterr()
    assert "gives equal scores" in captured.err
    assert json.loads(captured.out)["quality"]["verdict"] == "equal scores"


def test_no_such_reward_model(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reward", "evaluate", str(pairs), "--reward", "nowhere"]) == 2
    assert "reward.json" in capsys.readouterr().err
