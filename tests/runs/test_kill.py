"""A real process is killed again and again; the same command must end with the same artifacts."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import strop
from strop.runs import CallStore
from strop.runs.content import files_of
from strop.runs.history import read_history
from strop.runs.manifest import read_manifest

RECIPE = Path(__file__).with_name("scripted_recipe.py")
KILLS = 25


def launch(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(strop.__file__).parent.parent)}
    command = [sys.executable, str(RECIPE), *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)


def start(workspace: Path, asked: Path, pace: str) -> subprocess.Popen[str]:
    """Start the recipe and return when its imports are done and the run is about to be opened."""
    process = launch(str(workspace), str(asked), pace)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


class Server:
    """Executes the recipe in one new process after another."""

    def __init__(self) -> None:
        self.process = launch("--serve")

    def execute(self, workspace: Path, asked: Path, *, kill_after: float | None = None) -> int:
        """Execute the recipe once, killing it after so many seconds, and return the exit code of its process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{workspace} {asked}\n")
        self.process.stdin.flush()
        child = int(self.process.stdout.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            # Nothing happens to a process that has ended and was waited for; its number is not given out again so soon.
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        return int(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()


@pytest.fixture(name="server")
def running_server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files_of(folder)}


def stored_keys(workspace: Path) -> set[str]:
    if not (workspace / "calls.sqlite").exists():
        return set()
    with CallStore(workspace / "calls.sqlite") as store:
        return {key for (key,) in store._connection.execute("SELECT key FROM calls")}


def asked_keys(asked: Path) -> list[str]:
    return asked.read_text().split() if asked.exists() else []


def events(workspace: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (workspace / "run" / "manifest.jsonl").read_text().splitlines()]


def test_killed_at_25_random_moments_the_same_command_gives_the_same_artifacts(server: Server, tmp_path: Path) -> None:
    server.execute(tmp_path / "warm-up", tmp_path / "asked-warm-up")
    began = time.monotonic()
    assert server.execute(tmp_path / "unbroken", tmp_path / "asked-unbroken") == 0
    length = time.monotonic() - began
    expected = contents(tmp_path / "unbroken" / "run" / "stages")
    assert len(expected) == 6
    assert Counter(asked_keys(tmp_path / "asked-unbroken")).most_common(1)[0][1] == 1

    draw, kills, rounds, interruptions, ended = random.Random(20), 0, 0, 0, True
    while kills < KILLS or not ended:
        if ended:
            rounds += 1
            workspace, asked = tmp_path / f"killed-{rounds}", tmp_path / f"asked-{rounds}"
        before, stored = len(asked_keys(asked)), stored_keys(workspace)
        moment = draw.uniform(0, 0.8 * length) if kills < KILLS else None
        code = server.execute(workspace, asked, kill_after=moment)
        assert code in (0, -signal.SIGKILL)
        ended = code == 0
        kills += not ended
        assert not stored & set(asked_keys(asked)[before:]), "a stored call was asked again"
        if ended:
            assert contents(workspace / "run" / "stages") == expected
            assert not list((workspace / "run" / "work").iterdir())
            told = Counter(event["event"] for event in events(workspace))
            ends = Counter(event["status"] for event in events(workspace) if event["event"] == "closed")
            assert told["opened"] == told["closed"]
            assert set(ends) <= {"finished", "interrupted"}
            interruptions += ends["interrupted"]
            assert {stage.status for stage in read_history(workspace / "run").stages} <= {"finished", "skipped"}
    assert rounds >= 2, "the kills should not all fall into one run"
    assert interruptions >= KILLS // 2, "the rest came before the run was open, or after it was closed"


def test_a_signal_stops_the_run_in_order_and_the_same_command_continues(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    for number in (signal.SIGTERM, signal.SIGINT):
        before = count_started(tmp_path)
        process = start(tmp_path, asked, "0.05")
        while count_started(tmp_path) == before:
            time.sleep(0.01)
        time.sleep(0.1)
        process.send_signal(number)
        assert process.wait() == 3
        message = process.communicate()[1]
        assert f"stopped by {number.name}" in message
        assert "run the same command again" in message
        told = events(tmp_path)
        assert told[-1]["event"] == "closed"
        assert told[-1]["status"] == "interrupted"
    process = start(tmp_path, asked, "0.001")
    assert process.wait() == 0, process.communicate()[1]
    assert len(asked_keys(asked)) - len(set(asked_keys(asked))) <= 2 * 3, "at most the batch in flight is asked again"
    history = read_history(tmp_path / "run")
    assert (history.status, history.executions, history.stops) == ("finished", 3, 2)


def count_started(workspace: Path) -> int:
    manifest = workspace / "run" / "manifest.jsonl"
    return sum(event["event"] == "started" for event in read_manifest(manifest))


def test_a_second_writer_is_told_who_holds_the_run(tmp_path: Path) -> None:
    first = start(tmp_path, tmp_path / "asked", "0.2")
    while not count_started(tmp_path):
        time.sleep(0.01)
    second = start(tmp_path, tmp_path / "asked", "0.001")
    assert second.wait() == 2
    message = second.communicate()[1]
    assert f"pid {first.pid}" in message
    assert "scripted_recipe.py" in message
    first.kill()
    first.wait()
    third = start(tmp_path, tmp_path / "asked", "0.001")
    assert third.wait() == 0, third.communicate()[1]
