"""``strop grade``: files in, grades out, exit codes, and the published flags that it must reproduce."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from strop.cli.main import run
from strop.records.tables import read_table, write_table

ROWS = [
    {"id": "a", "response": "so\n#### 1,000", "gold": "1000"},
    {"id": "b", "response": "#### 0.50", "gold": "0.5"},
    {"id": "c", "response": "it is 7", "gold": "7"},
]


def _graded(arguments: list[str], out: Path) -> list[dict[str, Any]]:
    assert run(["grade", *arguments, "--quiet", "--out", str(out)]) == 0
    return read_table(out)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet", ".jsonl.gz", ".json.gz"])
def test_every_table_format_is_read(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"answers{suffix}"
    write_table(file, ROWS)
    graded = _graded([str(file), "--key", "gsm8k", "--mode", "compat"], tmp_path / "graded.jsonl")
    assert graded == [
        {"id": "a", "pred": "1000", "gold": "1000", "result": True},
        {"id": "b", "pred": "0.50", "gold": "0.5", "result": False},
        {"id": "c", "pred": "", "gold": "7", "result": False},
    ]


@pytest.mark.parametrize(("mode", "results"), [("strict", [True, True, False]), ("lenient", [True, True, True])])
def test_modes(tmp_path: Path, mode: str, results: list[bool]) -> None:
    write_table(tmp_path / "answers.jsonl", ROWS)
    graded = _graded([str(tmp_path / "answers.jsonl"), "--key", "gsm8k", "--mode", mode], tmp_path / "g.jsonl")
    assert [row["result"] for row in graded] == results


def test_fields_are_mapped_and_gold_is_optional(tmp_path: Path) -> None:
    write_table(tmp_path / "answers.jsonl", [{"out": {"text": "A: 5"}}, {"out": {"text": "A: 6"}}])
    arguments = [str(tmp_path / "answers.jsonl"), "--key", "A:", "--fields", "response=out.text"]
    assert _graded(arguments, tmp_path / "g.jsonl") == [{"id": 0, "pred": "5"}, {"id": 1, "pred": "6"}]


def test_samples_are_numbered(tmp_path: Path) -> None:
    write_table(tmp_path / "answers.jsonl", [{"id": 1, "responses": ["#### 5", "#### 6"], "gold": "5"}])
    graded = _graded([str(tmp_path / "answers.jsonl"), "--key", "gsm8k"], tmp_path / "g.jsonl")
    assert [(row["id"], row["sample"], row["result"]) for row in graded] == [(1, 0, True), (1, 1, False)]


def test_summary_for_people_and_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(tmp_path / "answers.jsonl", ROWS)
    assert run(["grade", str(tmp_path / "answers.jsonl"), "--key", "gsm8k", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["n"], summary["correct"], summary["no_answer"]) == (3, 2, 1)
    assert summary["interval"][0] < summary["accuracy"] < summary["interval"][1]
    assert run(["grade", str(tmp_path / "answers.jsonl"), "--key", "gsm8k"]) == 0
    assert "3 responses, 3 graded, 2 correct" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (None, ["--key", "gsm8k"], "no such file"),
        ('{"id": 1}\n', ["--key", "gsm8k"], "row 1: there is no response"),
        ('{"id": 1, "response": "x"}\n{broken\n', ["--key", "gsm8k"], "line 2: not valid JSON"),
        ('{"id": 1, "response": "x"}\n', ["--key", "  "], "an answer key"),
        ('{"id": 1, "response": "x"}\n', ["--key", "A:", "--fields", "gold"], "--fields maps"),
        ('{"id": 1, "response": "x"}\n', ["--key", "A:", "--fields", "gold=answer"], "no field 'answer'"),
    ],
)
def test_what_the_user_must_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, arguments: list[str], message: str
) -> None:
    """Exit code 2, one message, and no half-written output."""
    file, out = tmp_path / "answers.jsonl", tmp_path / "graded.jsonl"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    assert run(["grade", str(file), *arguments, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_all_published_flags_of_the_openai_examples(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One command, four models, 5,276 of 5,276 flags."""
    file = shared_data / "weak_to_strong/gsm8k/openai_example_model_solutions.jsonl.gz"
    arguments = ["grade", str(file), "--key", "A:", "--mode", "compat", "--out", str(tmp_path / "g.jsonl"), "--json"]
    assert run(arguments) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["published_results_equal"] == {"equal": 5276, "stated": 5276}
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    flags = [
        {"id": number, "model": name, "result": value["is_correct"]}
        for number, row in enumerate(rows)
        for name, value in row.items()
        if isinstance(value, dict)
    ]
    graded = [{name: row[name] for name in ("id", "model", "result")} for row in read_table(tmp_path / "g.jsonl")]
    assert graded == flags


def test_one_model_of_the_openai_examples_by_dotted_fields(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = shared_data / "weak_to_strong/gsm8k/openai_example_model_solutions.jsonl.gz"
    fields = ["response=175b_verification.solution", "gold=ground_truth", "result=175b_verification.is_correct"]
    mapped = [part for field in fields for part in ("--fields", field)]
    assert run(["grade", str(file), "--key", "A:", "--mode", "compat", "--json", *mapped]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["correct"], summary["published_results_equal"]) == (742, {"equal": 1319, "stated": 1319})


def test_published_rows_of_llama2_7b(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = shared_data / "weak_to_strong/outputs/gsm8k_train_2/llama2_7b_results.jsonl.gz"
    assert run(["grade", str(file), "--key", "gsm8k", "--mode", "compat", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["published_preds_equal"] == summary["published_results_equal"] == {"equal": 7000, "stated": 7000}
    assert summary["correct"] == 2896
