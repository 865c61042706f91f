"""Killed at any moment, a run of calls ends as one that was left alone: the script that proves it, at a small size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "kill_calls.py"


def outcome(calls: int, kills: int) -> dict[str, Any]:
    command = [sys.executable, str(SCRIPT), "--calls", str(calls), "--kills", str(kills)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.stdout, finished.stderr
    found: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return found


def check(calls: int, kills: int) -> None:
    found = outcome(calls, kills)
    assert found["differences"] == []
    assert (found["calls"], found["kills"]) == (calls, kills)
    assert found["failed"] > 0
    # What is in flight at a kill is lost: at most the limit and a quarter more.
    assert found["asked_again"] <= kills * 80
    assert found["requests"] == calls + found["failed"] + found["asked_again"]


def test_three_kills_lose_and_double_nothing() -> None:
    check(300, 3)


@pytest.mark.slow
def test_twenty_five_kills_of_ten_thousand_calls() -> None:
    check(10_000, 25)
