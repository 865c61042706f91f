"""``strop annotate`` as a person runs it: served by a process of its own, stopped, exported, reported."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest

from strop.cli import main

STROP = (sys.executable, "-m", "strop.cli.main", "annotate")


def _pairs(folder: Path, count: int = 4) -> Path:
    rows = [
        {"id": f"r/{number}", "prompt": f"Message {number}", "chosen": f"good {number}", "rejected": f"bad {number}"}
        for number in range(count)
    ]
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


class _Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def strop(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Strop:
    """Run one command line of ``strop annotate`` in this process."""
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: str | Path) -> _Done:
        code = main.run(["annotate", *map(str, arguments)])
        return _Done(code, *capsys.readouterr())

    return run


Strop = Callable[..., _Done]


@contextmanager
def _served(*arguments: str | Path) -> Iterator[tuple[dict[str, str], subprocess.Popen[str]]]:
    """Start the page and yield each annotator's address."""
    with subprocess.Popen([*STROP, *map(str, arguments), "--port", "0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        addresses = {}
        for line in process.stdout:
            name, _, address = line.strip().partition(": ")
            if address.startswith("http://"):
                addresses[name] = address
            if line.startswith("Ctrl-C"):
                break
        try:
            yield addresses, process
        finally:
            process.kill()


def _ask(address: str, path: str, **payload: Any) -> dict[str, Any]:
    base, _, token = address.partition("#")
    headers = {"authorization": f"Bearer {token}"}
    answer = httpx2.post(f"{base}api/{path}", json={"session": "a-test-window", **payload}, headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def _mark_all(address: str, *, otherwise: str = "") -> None:
    """Prefer the good response everywhere, and the bad one on the message that ends with `otherwise`."""
    state = _ask(address, "open")
    while state["position"] is not None:
        item = state["item"]
        wanted = "bad" if otherwise and item["prompt"][0]["text"].endswith(otherwise) else "good"
        choice = "left" if item["left"].startswith(wanted) else "right"
        common = {"version": state["version"], "position": state["position"], "kind": "choice", "advance": True}
        state = _ask(address, "save", choice=choice, **common)


def test_served_marked_stopped_and_reported(tmp_path: Path, strop: Strop) -> None:
    """Ben differs on one pair of four: agreement 0.75 with Anna and with the label, kappa by hand below.

    First and second are good or bad by their text: bad sorts first, so Anna says second four times. Her marginal is
    constant, chance agreement is 0.75, and kappa is 0.
    """
    pairs = _pairs(tmp_path)
    with _served(pairs, "--annotators", "anna,ben") as (addresses, process):
        assert sorted(addresses) == ["anna", "ben"]
        _mark_all(addresses["anna"])
        _mark_all(addresses["ben"], otherwise="2")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
        assert process.stdout is not None
        assert "anna: 4 of 4 pairs marked" in process.stdout.read()
    marks = tmp_path / "pairs.jsonl.annotations.sqlite"
    shown = strop("report", marks)
    assert shown.code == 0, shown.err
    assert "annotators differ on 1 pairs; somebody differs from the label on 1" in shown.out
    document = json.loads(strop("report", marks, "--json", "--resamples", "100").out)
    (between,) = document["between"]
    assert (between["n"], between["share"]["estimate"], between["kappa"]["estimate"]) == (4, 0.75, 0.0)
    assert [each["share"]["estimate"] for each in document["with_label"][:2]] == [1.0, 0.75]
    assert [each["key"] for each in document["disagreements"]] == ['"r/2"']
    out = tmp_path / "experts.jsonl"
    written = json.loads(strop("export", marks, "--out", out, "--json").out)
    assert (written["rows"], written["left_out"]) == (3, {"no majority": 1})
    assert all(json.loads(line)["better"].startswith("good") for line in out.read_text().splitlines())


def test_the_same_command_goes_on_with_the_same_addresses(tmp_path: Path) -> None:
    pairs = _pairs(tmp_path)
    with _served("serve", pairs, "--ties") as (before, _):
        state = _ask(before["expert"], "open")
        _ask(before["expert"], "save", version=0, position=0, kind="choice", choice="tie", advance=True)
        assert state["ties"]
    with _served(pairs) as (after, _):
        assert after["expert"].partition("#")[2] == before["expert"].partition("#")[2]
        state = _ask(after["expert"], "open", take=True)
        assert (state["done"], state["ties"]) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jsonl"], "no such file"),
        (["pairs.jsonl", "--annotators", "anna,anna"], "given twice"),
        (["pairs.jsonl", "--annotators", "a b"], "cannot be used"),
        (["pairs.jsonl", "--rubric", "principle-v1"], "did you mean 'principles-v1'"),
        (["pairs.jsonl", "--host", "203.0.113.1"], "cannot listen"),
        (["report", "nowhere.sqlite"], "no such file of annotations"),
        (["report", "pairs.jsonl"], "no file of annotations"),
        (["export", "nowhere.sqlite", "--out", "x.jsonl"], "no such file of annotations"),
    ],
)
def test_wrong_commands_are_one_message(tmp_path: Path, strop: Strop, arguments: list[str], message: str) -> None:
    _pairs(tmp_path)
    there = [str(tmp_path / each) if each.endswith((".jsonl", ".sqlite")) else each for each in arguments]
    done = strop(*there)
    assert (done.code, "Traceback" in done.err) == (2, False)
    assert message in done.err


def test_another_set_of_pairs(tmp_path: Path, strop: Strop) -> None:
    marks = tmp_path / "marks.sqlite"
    pairs = _pairs(tmp_path)
    with _served("--out", marks, pairs):
        pass
    (tmp_path / "other").mkdir()
    done = strop(_pairs(tmp_path / "other", 3), "--out", marks, "--port", "0")
    assert done.code == 2
    assert "another set of pairs" in done.err
    assert f"it belongs to {pairs}" in done.err


def test_a_port_in_use(tmp_path: Path, strop: Strop) -> None:
    pairs = _pairs(tmp_path)
    with _served(pairs) as (addresses, _):
        port = addresses["expert"].partition("#")[0].rstrip("/").rpartition(":")[2]
        done = strop(pairs, "--port", port)
    assert done.code == 2
    assert "--port 0" in done.err


def test_addresses_for_machines(tmp_path: Path) -> None:
    command = [*STROP, str(_pairs(tmp_path)), "--json", "--port", "0", "--annotators", "anna, ben"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line == "}\n":
                break
        document = json.loads("".join(lines))
        assert _ask(document["addresses"]["ben"], "open")["total"] == document["pairs"] == 4
        process.terminate()
        assert process.wait(timeout=20) == 0


def test_help_names_the_shorthand(strop: Strop) -> None:
    assert "strop annotate PAIRS" in strop("--help").out
    assert "--annotators" in strop("serve", "--help").out
