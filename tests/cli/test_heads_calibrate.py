"""``strop heads calibrate``: a table of this machine, used from then on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from strop.cli.main import run
from strop.heads import choosing

PASSES = ("forward", "training", "decode", "layer forward", "layer training")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep tables away from the user's; `auto` forgets the ones of this test afterwards."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    choosing.table_here.cache_clear()
    choosing._chosen.cache_clear()


def test_the_table_is_kept_and_used(own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One length: five passes, grouped or not, four shares."""
    before = torch.get_num_threads()
    assert run(["heads", "calibrate", "--lengths", "64", "--seconds", "0.01", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["cells"]) == len(PASSES) * 2 * 4
    assert {cell["size"]["tokens"] for cell in told["cells"]} == {64}
    assert Path(told["file"]).is_relative_to(own_cache)
    kept = choosing.read_table(Path(told["file"]).read_text(encoding="utf-8"))
    assert choosing.table_here(1) == kept
    assert torch.get_num_threads() == before


def test_people_see_what_is_chosen(own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--lengths", "64", "--seconds", "0.01", "--threads", "2", "--quiet"]
    assert run(["heads", "calibrate", *options]) == 0
    told = capsys.readouterr().out
    for passes in PASSES:
        assert passes in told
    assert "2 threads" in told
    assert "chosen" in told


def test_lengths_that_are_none_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["heads", "calibrate", "--lengths", "64,many"]) == 2
    assert "whole numbers" in capsys.readouterr().err
