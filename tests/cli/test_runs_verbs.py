"""The verbs over runs and recipes, through the command line's own entry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from strop.cli.main import run as strop
from strop.runs import Config, Run, Stage, StoredCall


class Settings(Config):
    """No settings."""


def answer(stage: Stage) -> None:
    call = StoredCall("key", "scripted", "1", {"prompt": "why?"}, 0, "because", "stop", 3, 2, 0.1)
    stage.store.put_many([call])
    stage.write_rows([{"text": call.text}])


@pytest.fixture(name="workspace")
def finished_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with Run.open(tmp_path / "first", config=Settings(), origins={}, seed=1, workspace=tmp_path, quiet=True) as run:
        run.stage(answer, name="answers")
    numbers = [{"name": "accuracy", "value": 0.75, "artifact": "answers", "file": "rows.jsonl"}]
    (tmp_path / "first" / "report.json").write_text(json.dumps({"numbers": numbers}))
    monkeypatch.setenv("STROP_WORKSPACE", str(tmp_path))
    return tmp_path


def test_show(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert strop(["show", "first"]) == 0
    text = capsys.readouterr().out
    for part in ("finished, seed 1", "01-answers", "accuracy", "0.75"):
        assert part in text
    assert strop(["show", str(workspace / "first"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["stages"][0]["calls"] == 1
    assert shown["numbers"][0]["name"] == "accuracy"


def test_an_unknown_run_is_answered_with_the_nearest(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert strop(["show", "frist"]) == 2
    assert "did you mean 'first'?" in capsys.readouterr().err


def test_trace(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert strop(["trace", "first", "accuracy"]) == 0
    text = capsys.readouterr().out
    for part in ("accuracy = 0.75, file rows.jsonl", "01-answers", "1 calls, 5 tokens", '"why?"', '"because"'):
        assert part in text
    assert strop(["trace", "first", "accuracy", "--json", "--calls", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["root"]["calls"] == 1
    assert strop(["trace", "first", "accurancy"]) == 2
    assert "did you mean 'accuracy'?" in capsys.readouterr().err


def test_store(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert strop(["store", "size", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unused"] == 0
    (workspace / "first" / "run.json").unlink()
    assert strop(["store", "prune", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == 1
    assert strop(["store", "size", "--workspace", str(workspace / "absent")]) == 2
    assert "there is no call store yet" in capsys.readouterr().err


def test_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert strop(["schema", "weak_to_strong"]) == 0
    assert json.loads(capsys.readouterr().out)["additionalProperties"] is False
    assert strop(["schema", "weak_to_stong"]) == 2
    assert "did you mean 'weak_to_strong'?" in capsys.readouterr().err


def test_config_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("recipe: weak_to_strong\nweek: {}\n")
    assert strop(["config", str(recipe)]) == 2
    assert "mine.yaml:2: week: unknown key, did you mean 'weak'?" in capsys.readouterr().err
