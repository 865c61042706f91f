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


TRAIN = ["--device", "cpu", "--epochs", "1", "--batch-size", "4", "--max-length", "64"]


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """Eight pairs of prompt, chosen and rejected."""
    rows = [
        {"prompt": f"i feel {word}", "chosen": "what do you need ?", "rejected": "work more"}
        for word in ("sad", "tired", "alone", "glad") * 2
    ]
    file = tmp_path / "training.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def test_train_then_score(
    training: Path, tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Eight pairs in batches of four are two steps; the folder then scores, one reward a response."""
    out = tmp_path / "reward"
    command = ["reward", "train", str(training), "--model", str(tiny_encoder), "--out", str(out), *TRAIN]
    assert run([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["out"], told["steps"]) == (str(out), 2)
    assert run(command) == 2
    assert "holds a reward model already" in capsys.readouterr().err

    answers, scored = tmp_path / "answers.jsonl", tmp_path / "scored.jsonl"
    rows = [
        {"prompt": "i feel sad", "response": "why ?", "mark": 1},
        {"prompt": "i feel sad", "responses": ["why ?", "work more"]},
    ]
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    score = ["reward", "score", str(answers), "--reward", str(out), "--out", str(scored), "--device", "cpu"]
    assert run([*score, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["responses"]) == (2, 3)
    first, second = (json.loads(line) for line in scored.read_text(encoding="utf-8").splitlines())
    assert first["mark"] == 1
    assert first["reward"] == pytest.approx(second["rewards"][0], abs=1e-4)
    assert len(second["rewards"]) == 2


def test_general_pairs_need_a_share_between(
    training: Path, tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["reward", "train", str(training), "--model", str(tiny_encoder), "--out", str(tmp_path / "r"), *TRAIN]
    assert run([*command, "--mix", str(training), "--share", "0"]) == 2
    assert "between 0 and 1" in capsys.readouterr().err


def test_score_counts_words_under_other_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers, scored = tmp_path / "answers.jsonl", tmp_path / "scored.jsonl"
    answers.write_text(json.dumps({"prompt": "p", "answer": "one two three"}) + "\n", encoding="utf-8")
    score = ["reward", "score", str(answers), "--reward", "words", "--out", str(scored)]
    assert run(score) == 2
    assert "--fields response=YOURS" in capsys.readouterr().err
    assert not scored.exists()
    assert run([*score, "--fields", "response=answer"]) == 0
    assert json.loads(scored.read_text(encoding="utf-8"))["reward"] == 3.0
    assert "1 responses of 1 rows, scored by words" in capsys.readouterr().out


def test_a_response_longer_than_the_window_is_named_and_nothing_is_written(
    tiny_reward: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers, scored = tmp_path / "answers.jsonl", tmp_path / "scored.jsonl"
    answers.write_text(json.dumps({"prompt": "p", "response": "sad " * 90}) + "\n", encoding="utf-8")
    score = ["reward", "score", str(answers), "--reward", str(tiny_reward), "--out", str(scored), "--device", "cpu"]
    assert run(score) == 2
    assert "window is 64 tokens" in capsys.readouterr().err
    assert not scored.exists()
