"""``strop preference`` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from pyarrow import parquet

from strop.cli.main import run
from strop.methods.preference.ratings import PRINCIPLES
from strop.records.tables import read_table, write_table


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run(list(arguments))
    told = capsys.readouterr()
    return code, told.out, told.err


@pytest.fixture
def rated(tmp_path: Path) -> Path:
    """Thirty speeches with three responses each: 35, 21 and 7."""
    rows = [
        {
            "id": n,
            "text": f"My sister and I have not spoken since the spring, and it is week {n} now.",
            "responses": [
                {"id": name, "text": f"{name} {n}", "model": f"m{at}", "ratings": dict.fromkeys(PRINCIPLES, at)}
                for name, at in {"a": 5, "b": 3, "c": 1}.items()
            ],
        }
        for n in range(30)
    ]
    path = tmp_path / "rated.jsonl"
    write_table(path, rows)
    return path


def test_pairs_in_every_form(rated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pairs"
    given = ["preference", "pairs", str(rated), "--out", str(out), "--fields", "speech=text", "--source", "own=MIT"]
    code, told, _ = _run(capsys, *given, "--json", "--test", "0.2", "--rubric", "principles-v1")
    counts = json.loads(told)
    assert code == 0
    rows = read_table(out / "rows.jsonl")
    assert len(rows) == sum(sum(kinds.values()) for kinds in counts["pairs"].values())
    assert all(row["gap"] in (14, 28) for row in rows)
    assert parquet.read_table(out / "published" / "train.parquet").num_rows == counts["pairs"]["train"]["gap"]
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "own: MIT" in card
    assert "principles-v1 (version 1, " in card
    assert json.loads((out / "report.json").read_text(encoding="utf-8"))["settings"]["min_gap"] == 7
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    assert _run(capsys, *given, "--json", "--test", "0.2", "--rubric", "principles-v1")[0] == 0
    assert before == {path: path.read_bytes() for path in out.rglob("*.*")}


def test_the_folder_is_a_data_set_of_the_hub(rated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`datasets` finds the published files by the card, and nothing else of the folder."""
    out = tmp_path / "pairs"
    given = ["preference", "pairs", str(rated), "--out", str(out), "--fields", "speech=text", "--test", "0.3"]
    assert _run(capsys, *given)[0] == 0
    loaded = load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    rows = read_table(out / "rows.jsonl")
    assert {name: len(split) for name, split in loaded.items()} == {
        split: sum(row["split"] == split for row in rows) for split in ("train", "development", "test")
    }
    assert loaded["train"][0]["question"] == next(row["prompt"] for row in rows if row["split"] == "train")


def test_pairs_for_people(rated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["preference", "pairs", str(rated), "--out", str(tmp_path / "pairs"), "--fields", "speech=text"]
    code, told, _ = _run(capsys, *given)
    assert code == 0
    assert "The judge has no certificate" in told
    assert "responses, gate: 60 passed, 30 failed, 0 unknown" in told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "has no text"),
        (["--fields", "speech=text", "--min-gap", "35", "--test", "0"], "the ratings give no pair"),
        (["--fields", "speech=text", "--source", "mine"], "--source says where texts come from"),
        (["--fields", "speech=text", "--certificate", "none.json"], "certificate cannot be read"),
        (["--fields", "speech=text", "--test", "0.6", "--development", "0.4"], "leave nothing to train on"),
    ],
)
def test_what_cannot_be_is_one_message_and_writes_nothing(
    options: list[str], message: str, rated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pairs"
    code, _, told = _run(capsys, "preference", "pairs", str(rated), "--out", str(out), *options)
    assert code == 2
    assert message in told
    assert "Traceback" not in told
    assert not out.exists()


def test_speeches(rated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "speeches.jsonl"
    given = [
        "preference",
        "speeches",
        str(rated),
        "--out",
        str(out),
        "--fields",
        "speech=text",
        "--min-characters",
        "40",
    ]
    code, told, _ = _run(capsys, *given, "--near-duplicates", "0", "--test", "0.2", "--development", "0.2", "--json")
    counts: dict[str, Any] = json.loads(told)
    assert code == 0
    rows = read_table(out)
    assert len(rows) == counts["speeches"] == 30
    assert [sum(row["split"] == split for row in rows) for split in counts["splits"]] == list(counts["splits"].values())
    code, told, _ = _run(capsys, *given, "--near-duplicates", "0.5", "--test", "0", "--development", "0")
    assert code == 0
    assert "1 speeches of 30 rows" in told
    code, _, told = _run(capsys, *given, "--max-characters", "20")
    assert code == 2
    assert "'min_characters' is larger than 'max_characters'" in told
