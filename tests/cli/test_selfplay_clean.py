"""``strop selfplay clean`` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from strop.cli.main import run
from strop.records.tables import write_table


@pytest.fixture
def sessions(tmp_path: Path) -> Path:
    """Two sessions: a sound one, and one whose illness is a doctor and whose medicine is missing."""
    sound = {
        "illness": "Panic Disorder",
        "treatment": "Exposure therapy",
        "explain_t": "Fear fades where nothing happens.",
        "medicine": "Sertraline",
        "explain_m": "It calms.",
    }
    write_table(tmp_path / "rows.jsonl", [sound, {**sound, "illness": "Doctor 2.", "medicine": "No specific medicine"}])
    return tmp_path / "rows.jsonl"


def test_tables(sessions: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert run(["selfplay", "clean", str(sessions)]) == 0
    told = capsys.readouterr().out
    assert "50.0% [9.5%, 90.5%]" in told
    assert "names a doctor" in told
    assert "says nothing" in told


def test_json(sessions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["selfplay", "clean", str(sessions), "--rule", "published", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rule"] == "published"
    assert told["files"][0]["kept"] == {"diagnosis": 2, "treatment": 2, "medication": 2}
    assert told["files"][0]["doctor"]["share"] == 0.5


def test_no_session(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.jsonl").write_text('{"symptom": "x"}\n', encoding="utf-8")
    assert run(["selfplay", "clean", str(tmp_path / "rows.jsonl")]) == 2
    assert "row 1: a session's outcome needs the text 'illness'" in capsys.readouterr().err
