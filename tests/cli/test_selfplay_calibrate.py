"""``strop selfplay calibrate`` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from strop.cli.main import run
from strop.methods.selfplay.calibration import STATEMENTS
from strop.methods.selfplay.cards import read_cards
from strop.records.tables import read_table, write_table


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def files(tmp_path: Path, tiny_encoder: Path) -> list[str]:
    """The options that name a tiny encoder, the cards of two conditions and their statements."""
    some = {card.id: card for card in read_cards() if card.condition in ("major depression", "insomnia")}
    write_table(tmp_path / "cards.jsonl", [card.to_row() for card in some.values()])
    write_table(tmp_path / "said.jsonl", [row for row in read_table(STATEMENTS) if row["card"] in some])
    cards, pairs = str(tmp_path / "cards.jsonl"), str(tmp_path / "said.jsonl")
    return ["--embedder", str(tiny_encoder), "--cards", cards, "--pairs", pairs]


def test_tables_and_files(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(["selfplay", "calibrate", *files, "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert f"matching ({len(read_table(tmp_path / 'said.jsonl'))})" in told
    assert "AUC of matching against other texts" in told
    assert "all fields, one for all" in told
    assert sorted(path.name for path in out.iterdir()) == ["calibration.json", "similarities.jsonl", "similarities.svg"]


def test_json(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["selfplay", "calibrate", *files, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["embedder"] == files[1]
    assert told["matching_pairs"] == len(read_table(tmp_path / "said.jsonl"))
    assert set(told["thresholds"]) == set(told["held_out_fields"])


def test_a_file_that_is_about_other_cards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "said.jsonl").write_text('{"card": "x", "field": "situation", "text": "Sad."}\n', encoding="utf-8")
    assert run(["selfplay", "calibrate", "--pairs", str(tmp_path / "said.jsonl")]) == 2
    assert "is about no card" in capsys.readouterr().err
