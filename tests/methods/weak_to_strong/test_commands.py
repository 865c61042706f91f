"""``strop weak-to-strong`` as a user meets it: files in, files out, one clear message and exit code 2 otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from strop.cli.main import run
from strop.records.tables import read_table, write_table


def write_answers(path: Path, responses: list[str]) -> Path:
    rows = ({"id": n, "prompt": f"Question: q{n}\nAnswer:", "response": text} for n, text in enumerate(responses))
    write_table(path, rows)
    return path


@pytest.fixture
def weak(tmp_path: Path) -> Path:
    return write_answers(tmp_path / "weak.jsonl", ["w\n#### 1", "w\n#### 2", "none", "w\n#### 4"])


@pytest.fixture
def strong(tmp_path: Path) -> Path:
    return write_answers(tmp_path / "icl.jsonl", ["i\n#### 1", "i\n#### 3", "none", "i\n#### 4.0"])


def said(arguments: list[Any], capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command that must succeed and return its JSON."""
    assert run(["weak-to-strong", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def complaint(arguments: list[Any], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must end with exit code 2 and return its message."""
    assert run(["weak-to-strong", *map(str, arguments)]) == 2
    return capsys.readouterr().err


def test_select_writes_sets_and_report(
    weak: Path, strong: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gold = tmp_path / "gold.jsonl"
    write_table(gold, [{"id": n, "gold": text} for n, text in enumerate(["1", "2", "3", "5"])])
    out = tmp_path / "out"
    report = said(
        ["select", "--weak", weak, "--strong", strong, "--key", "gsm8k", "--out", out, "--gold", gold], capsys
    )
    assert report == json.loads((out / "report.json").read_text())
    assert (report["rows"], report["kept"], report["decisions"]["different"]) == (4, 2, 1)
    assert report["quality"]["precision"] == 0.5
    assert read_table(out / "weak.json") == [
        {"id": 0, "content": "Question: q0\nAnswer:", "output": "w\n#### 1"},
        {"id": 3, "content": "Question: q3\nAnswer:", "output": "w\n#### 4"},
    ]
    assert [row["output"] for row in read_table(out / "hybrid.json")] == [
        "w\n#### 1",
        "i\n#### 1",
        "w\n#### 4",
        "i\n#### 4.0",
    ]


@pytest.mark.parametrize(("mode", "kept"), [("compat", [0]), ("strict", [0, 1])])
def test_strict_mode_compares_values(
    mode: str, kept: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weak = write_answers(tmp_path / "weak.jsonl", ["#### 0.5", "#### 0.50", "#### 1,2"])
    strong = write_answers(tmp_path / "icl.jsonl", ["#### 0.5", "#### 0.5", "#### 7"])
    arguments = ["select", "--weak", weak, "--strong", strong, "--key", "gsm8k", "--mode", mode, "--out", tmp_path]
    assert said(arguments, capsys)["kept"] == len(kept)
    assert [row["id"] for row in read_table(tmp_path / "icl.json")] == kept


def test_select_maps_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("weak", "icl"):
        write_table(tmp_path / f"{name}.jsonl", [{"id": 0, "question": "q", "text": "A: 5"}])
    files = ["--weak", tmp_path / "weak.jsonl", "--strong", tmp_path / "icl.jsonl", "--out", tmp_path]
    arguments = ["select", *files, "--key", "A:", "--fields", "prompt=question", "--fields", "response=text"]
    assert said(arguments, capsys)["kept"] == 1
    assert "prompt and a response" in complaint(["select", *files, "--key", "A:"], capsys)
    assert "--fields maps" in complaint(["select", *files, "--key", "A:", "--fields", "prompt"], capsys)


def test_select_names_missing_ids(weak: Path, strong: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(strong, read_table(strong)[1:])
    arguments = ["select", "--weak", weak, "--strong", strong, "--key", "gsm8k", "--out", tmp_path / "out"]
    message = complaint(arguments, capsys)
    assert "1 ids of" in message
    assert "missing from" in message
    assert ": 0" in message
    assert not (tmp_path / "out" / "weak.json").exists()


def test_select_names_the_broken_line(
    weak: Path, strong: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strong.write_text(strong.read_text().replace('{"id": 2', "{'id': 2"))
    arguments = ["select", "--weak", weak, "--strong", strong, "--key", "gsm8k", "--out", tmp_path / "out"]
    assert "icl.jsonl, line 3: not valid JSON" in complaint(arguments, capsys)


def test_pairs_in_both_forms(weak: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Question 0: nine of ten agree with the weak answer; 1: all ten against it; 2 and 3: votes too weak."""
    votes = [["1"] * 9 + ["2"], ["7"] * 10, ["1"] * 5 + ["2"] * 5, ["9"] * 7 + ["4"] * 3]
    rows = [
        {"id": n, "prompt": f"Question: q{n}\nAnswer:", "responses": [f"#### {vote}" for vote in ten], "gold": "x"}
        for n, ten in enumerate(votes)
    ]
    write_table(tmp_path / "ten.jsonl", rows)
    out = tmp_path / "pairs.json"
    files = ["--samples", tmp_path / "ten.jsonl", "--weak", weak, "--out", out]
    report = said(["pairs", *files, "--rule", "gsm8k", "--key", "gsm8k", "--seed", "42"], capsys)
    assert (report["pairs"], report["roles"]["weak chosen"], report["roles"]["weak rejected"]) == (2, 1, 1)
    first, second = read_table(out)
    assert first == {
        "id": 0,
        "instruction": "Question: q0\nAnswer:",
        "input": "",
        "output": ["w\n#### 1", "#### 2"],
    }
    assert second["output"] == ["#### 7", "w\n#### 2"]
    assert [row["chosen"] for row in read_table(Path(report["columns"]))] == ["w\n#### 1", "#### 7"]


def test_pairs_refuse_other_thresholds(weak: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--samples", weak, "--weak", weak, "--out", tmp_path / "p.json", "--rule", "math", "--key", "gsm8k"]
    assert "between 0 and 1" in complaint(["pairs", *files, "--keep", "6"], capsys)
    assert "no field 'responses'" in complaint(["pairs", *files], capsys)


def test_demonstrations(weak: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = said(["demonstrations", "--weak", weak, "--count", 3], capsys)
    assert sorted(chosen["ids"]) == [0, 1, 3]
    ids = ["demonstrations", "--weak", weak, "--choice", "ids", "--ids", "3,0", "--out", tmp_path / "block.txt"]
    assert said(ids, capsys)["ids"] == [3, 0]
    assert (tmp_path / "block.txt").read_text().startswith("Question: q3\nAnswer: w\n#### 4\n\nQuestion: q0")
    gold = tmp_path / "gold.jsonl"
    write_table(gold, [{"id": n, "gold": str(n + 1)} for n in range(4)])
    correct = ["demonstrations", "--weak", weak, "--choice", "first-correct", "--gold", gold, "--count", 3]
    assert sorted(said(correct, capsys)["ids"]) == [0, 1, 3]
    assert "needs --gold" in complaint(["demonstrations", "--weak", weak, "--choice", "first-correct"], capsys)
    assert "only 3 weak answers" in complaint(["demonstrations", "--weak", weak], capsys)


def test_audits(weak: Path, strong: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    splits = said(["audit", "splits", weak, strong], capsys)
    assert (splits["shared_questions"], splits["first_duplicates"], splits["first_ids"]) == (4, 0, [0, 1, 2, 3])
    pairs = tmp_path / "pairs.json"
    write_table(pairs, [{"id": 0, "instruction": "q", "input": "", "output": ["w\n#### 1", "x\n#### 2"]}])
    who = said(["audit", "supervisor", pairs, "--weak", f"w={weak}", "--weak", f"i={strong}"], capsys)
    assert [(row["candidate"], row["share"]) for row in who] == [("w", 1), ("i", 0)]
    assert said(["audit", "pairs", pairs, "--key", "gsm8k"], capsys)["same_answer"] == 0
    among = said(["audit", "demonstrations", "--weak", weak, "--ids", "0,2", "--questions", strong], capsys)
    assert (among["demonstrations"], among["asked_as_well"]) == (2, 2)
    gold = tmp_path / "gold.jsonl"
    write_table(gold, [{"answer": "1"}, {"answer": "2"}, {"answer": "3"}, {"answer": "4"}])
    files = ["--weak", weak, "--kept", weak, "--gold", gold, "--key", "gsm8k"]
    quality = said(["audit", "selection", *files], capsys)
    assert (quality["precision"], quality["recall"], quality["without_answer"]) == (0.75, 1, 1)


def test_tables_for_people(weak: Path, strong: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["weak-to-strong", "audit", "splits", str(weak), str(strong)]) == 0
    assert "shared questions" in capsys.readouterr().out
