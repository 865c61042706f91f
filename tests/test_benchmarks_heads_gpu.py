"""The GPU benchmark of mixture-of-head attention runs in Triton's interpreter, and says where it cannot run.

Nothing here looks at a speed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "heads_gpu.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_says_that_there_is_no_gpu() -> None:
    done = run()
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("no GPU here")


@pytest.mark.slow
def test_every_part_runs(tmp_path: Path) -> None:
    """Forward, with gradients and decoding; output and gradients are compared with fp64 before."""
    pytest.importorskip("triton")
    done = run("--tiny", "--rounds", "1", "--json", str(tmp_path / "figures.json"))
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert len(figures["checked"]) == 4
    parts = [row["part"] for row in figures["rows"]]
    assert {part: parts.count(part) for part in set(parts)} == {"forward": 2, "forward+backward": 2, "decode": 4}
    assert all(row["over"]["median"] > 0 for row in figures["rows"])
    assert all(1 <= row["bound"] <= 2 for row in figures["rows"])


@pytest.mark.slow
def test_sizes_of_tiles_are_tried() -> None:
    pytest.importorskip("triton")
    done = run("--tiny", "--rounds", "1", "--tune")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("best") == 4
