"""``strop judge fit`` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
import typer
from typer.testing import CliRunner

from strop.cli.judge_fit import fit_command

APP = typer.Typer()
APP.command()(fit_command)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Forty pairs in which people prefer a question."""
    random, path = Random(0), tmp_path / "pairs.jsonl"
    words = ["i", "you", "feel", "sad", "alone", "work", "home", "family", "friend", "day"]
    rows = [
        {
            "question": f"prompt {number}",
            "better": f"what {' '.join(random.choices(words, k=6))} {number} ?",
            "worse": f"must {' '.join(random.choices(words, k=6))} {number} .",
        }
        for number in range(40)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_table_the_words_and_the_json(
    pairs: Path, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STROP_CACHE", str(tmp_path / "cache"))
    given = ["--pairs", str(pairs), "--out", str(tmp_path / "judge"), "--encoder", str(tiny_encoder)]
    given += ["--grid", "single", "--draws", "1", "--fields", "prompt=question", "--quiet"]
    shown = CliRunner().invoke(APP, given)
    assert shown.exit_code == 0, shown.output
    for text in (
        "40 pairs, out of fold",
        "kept: embedding, C = 1",
        "1 settings were tried",
        "25 labels buy",
        "written:",
    ):
        assert text in shown.output
    as_json = CliRunner().invoke(APP, [*given, "--json"])
    report = json.loads(as_json.stdout)
    assert report["pairs"] == 40
    assert report["slices"][0]["versus"]["TF-IDF"]["difference"]["n"] == 40
    assert "prompt 3" not in shown.output, "no text of a pair is printed"
