"""`auto` chooses by a table: the nearest cell that promises less, and dense attention where nothing clearly gains."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from strop.heads import calibration, choosing
from strop.heads.choosing import Cell, Size, Table, attention_backend, choose, read_table, rows_backend, write_table
from strop.heads.plan import routing_plan
from strop.heads.visibility import causal

TABLE = Table(
    "a machine",
    tuple(
        Cell(Size("forward", False, tokens, share), {"gathered": gathered, "native": native})
        for tokens, share, gathered, native in (
            (512, 0.25, 1.5, 2.5),
            (512, 0.5, 0.9, 1.8),
            (2048, 0.25, 2.4, 4.0),
            (2048, 0.5, 1.3, 2.2),
            (2048, 0.75, 1.0, 1.04),
        )
    ),
)


@pytest.mark.parametrize(
    ("tokens", "share", "usable", "want"),
    [
        (2048, 0.5, ["gathered", "native"], "native"),
        (2048, 0.5, ["gathered"], "gathered"),
        (2047, 0.5, ["gathered"], "reference"),  # judged as 512 tokens, where gathered loses
        (2048, 0.3, ["gathered"], "gathered"),  # judged as 50 %
        (2048, 0.75, ["gathered", "native"], "reference"),  # 4 % is no gain
        (2048, 0.8, ["gathered", "native"], "reference"),  # no cell with so many heads
        (2048, 1.0, ["gathered", "native"], "reference"),
        (511, 0.25, ["gathered", "native"], "reference"),  # no cell so short
        (10**6, 0.25, ["gathered", "native"], "native"),
        (2048, 0.25, [], "reference"),
    ],
)
def test_the_nearest_cell_that_promises_less_decides(tokens: int, share: float, usable: list[str], want: str) -> None:
    if usable:
        assert choose(TABLE, Size("forward", False, tokens, share), usable) == want


def test_other_passes_and_groups_have_their_own_cells() -> None:
    assert choose(TABLE, Size("training", False, 4096, 0.25), ["native"]) == "reference"
    assert choose(TABLE, Size("forward", True, 4096, 0.25), ["native"]) == "reference"


def test_packed_rows_never_go_back_to_dense_attention() -> None:
    assert choose(TABLE, Size("forward", False, 2048, 1.0), ["gathered", "native"], dense=False) == "native"
    assert choose(TABLE, Size("forward", False, 2048, 0.75), ["gathered", "native"], dense=False) == "native"
    plan = routing_plan(torch.ones(1, 8, 2, dtype=torch.bool), groups=2, visible=causal(1, 8))
    assert rows_backend(torch.zeros(16, 64), plan, training=False) in {"gathered", "native"}


@given(tokens=st.integers(1, 10**5), share=st.floats(0, 1), more=st.integers(0, 10**5))
def test_shorter_or_denser_never_promises_more(tokens: int, share: float, more: int) -> None:
    """In a table whose gains grow with length and fall with the share, so does every decision."""
    there = choose(TABLE, Size("forward", False, tokens, share), ["gathered"])
    longer = choose(TABLE, Size("forward", False, tokens + more, share), ["gathered"])
    assert there == "reference" or longer == "gathered"


def test_all_heads_on_is_dense_attention() -> None:
    sizes = {"batch": 1, "queries": 8192, "keys": 8192, "heads": 16, "groups": 16}
    like = torch.zeros(1, 16, 1, 64)
    assert attention_backend(like, **sizes, rows=8192 * 16, training=False) == "reference"  # type: ignore[arg-type]
    assert attention_backend(like, **sizes, rows=None, training=False) == "reference"  # type: ignore[arg-type]


def test_the_shipped_table_covers_the_grid() -> None:
    table = read_table(choosing._shipped())
    assert table is not None
    sizes = {cell.size for cell in table.cells}
    assert sizes == set(calibration.sizes(calibration.TOKENS, calibration.SHARES, calibration.PASSES))
    assert all(set(cell.gain) == set(calibration.CALIBRATED) for cell in table.cells)


def test_a_table_survives_its_file_and_another_version_does_not(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.json"
    write_table(TABLE, path)
    text = path.read_text()
    assert read_table(text) == TABLE
    assert read_table(text.replace('"version": 1', '"version": 0')) is None
    assert read_table(text[: len(text) // 2]) is None
    assert read_table("[]") is None
    assert read_table('{"version": 1, "machine": "m", "cells": [{"size": {"tokens": 3}, "gain": {}}]}') is None


def test_this_machine_is_timed_and_its_table_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sizes in the user's cache; a number of threads that was not calibrated gets the shipped table."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lines: list[str] = []
    threads = torch.get_num_threads()
    try:
        table = calibration.calibrate(
            tokens=(64,), shares=(0.25,), passes=("layer training", "decode"), seconds=0.0, tell=lines.append
        )
        assert len(lines) == len(table.cells) == 4
        assert choosing.table_here(threads) == table
        assert choosing.table_here(threads + 1).machine != table.machine
        (path,) = (tmp_path / "strop" / "heads").iterdir()
        assert json.loads(path.read_text())["machine"] == choosing.machine_name(threads)
        assert all(gain > 0 for cell in table.cells for gain in cell.gain.values())
        path.write_text("damaged")
        choosing.table_here.cache_clear()
        assert choosing.table_here(threads).machine != table.machine
    finally:
        choosing.table_here.cache_clear()
        choosing._chosen.cache_clear()


def test_decisions_from_many_threads_agree() -> None:
    found: list[str] = []
    sizes = {"batch": 1, "queries": 4096, "keys": 4096, "heads": 16, "groups": 4}

    def decide() -> None:
        like = torch.zeros(1, 16, 1, 64)
        found.append(attention_backend(like, **sizes, rows=4096 * 4, training=True))  # type: ignore[arg-type]

    threads = [threading.Thread(target=decide) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
