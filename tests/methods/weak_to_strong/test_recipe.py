"""The whole recipe with the shipped models: it ends in a report, continues for free, and repeats to the byte."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from strop.cli.options import load
from strop.cli.run import Finished, execute
from strop.cli.verbs import app
from strop.runs import CallStore
from strop.runs.content import files_of
from strop.runs.history import read_history
from strop.runs.lineage import Node, trace
from strop.runs.workspace import store_path

TINY = (
    *("seeds=[1]", "data.population=development", "data.train_1=60", "data.train_2=24", "data.test=20"),
    *("weak.train.max_steps=60", "stage_one.train.max_steps=4", "decoding.max_tokens=32"),
    *("demonstrations.count=2", "stage_one.iterations=1", "stage_one.top_up=8"),
    *("stage_two.keep=0.2", "stage_two.reject_weak=0.3", "stage_two.samples=4", "stage_two.train.dpo.max_steps=6"),
    # A rate that changes answers, so that a changed optimisation changes the results too.
    "stage_two.train.dpo.learning_rate=1.0e-2",
    *("arms=[naive, icl, ceiling]", "evaluation={pass_at: [1, 2], resamples: 200}"),
)


def execute_tiny(workspace: Path, *changes: str) -> Finished:
    loaded = load("weak_to_strong/demo", [*TINY, *changes])
    return execute(loaded, name="tiny", workspace=workspace, quiet=True)


def contents(run: Path) -> dict[str, bytes]:
    stages = run / "stages"
    return {path.relative_to(stages).as_posix(): path.read_bytes() for path in files_of(stages)}


def calls(workspace: Path) -> int:
    with CallStore(store_path(workspace)) as store:
        return store.sizes().calls


def states(run: Path) -> dict[str, str]:
    return {stage.stage.partition("-")[2].removeprefix("seed1-"): stage.status for stage in read_history(run).stages}


@dataclass(frozen=True)
class Executions:
    """One workspace after three executions, and what was seen after each: as it is, the same again, changed."""

    workspace: Path
    run: Path
    report: dict[str, Any]
    page: str
    results: dict[str, Any]
    contents: tuple[dict[str, bytes], ...]
    states: tuple[dict[str, str], ...]
    calls: tuple[int, ...]
    headline: Node


@pytest.fixture(scope="session")
def executions(tmp_path_factory: pytest.TempPathFactory) -> Executions:
    workspace = tmp_path_factory.mktemp("recipe")
    seen: list[tuple[dict[str, bytes], dict[str, str], int]] = []

    def execute_and_look(*changes: str) -> Finished:
        finished = execute_tiny(workspace, *changes)
        seen.append((contents(finished.run), states(finished.run), calls(workspace)))
        return finished

    finished = execute_and_look()
    report, page = json.loads((finished.run / "report.json").read_text()), finished.report.read_text()
    results = json.loads(next(finished.run.glob("stages/*-results/results.json")).read_text())
    headline = trace(finished.run, "accuracy.dpo").root
    execute_and_look()
    execute_and_look("stage_two.train.dpo.beta=5")
    files, statuses, counts = zip(*seen, strict=True)
    return Executions(workspace, finished.run, report, page, results, files, statuses, counts, headline)


def test_the_report_is_a_page_with_the_numbers(executions: Executions) -> None:
    numbers = {number["name"]: number for number in executions.report["numbers"]}
    assert {"accuracy.floor", "accuracy.dpo", "accuracy.ceiling", "gap_recovered.dpo"} <= set(numbers)
    assert executions.page.startswith("<!doctype html>") or executions.page.startswith("<!DOCTYPE html>")
    assert "weak floor" in executions.page
    stages = [stage["name"] for stage in executions.report["stages"]]
    assert len(stages) == len(executions.states[0])


def test_the_results_are_sane(executions: Executions) -> None:
    results = executions.results
    assert (results["seeds"], results["final"], results["items"]) == ([1], "dpo", 20)
    assert set(results["arms"]) == {
        *("floor", "icl", "iteration1_weak", "iteration1_icl", "iteration1_hybrid", "dpo", "naive", "ceiling"),
    }
    for row in results["arms"].values():
        assert 0 <= row["low"] <= row["value"] <= row["high"] <= 1
        assert row["n"] + row["not_graded"] == 20
        assert math.isclose(row["value"] * 20, round(row["value"] * 20))
    (iteration,) = results["iterations"]
    assert iteration["offered"] == 24
    assert 1 <= iteration["kept"] <= 24
    assert results["pairs"]["graded"] >= 1
    assert [row["k"] for row in results["pass_at"]] == [1, 2]
    assert results["pass_at"][0]["unbiased"] <= results["pass_at"][1]["unbiased"]


def test_the_arms_are_counted_as_their_grades_say(executions: Executions) -> None:
    for arm, row in executions.results["arms"].items():
        path = next(executions.run.glob(f"stages/*-seed1-test-{arm.replace('_', '-')}/grades.jsonl"))
        if arm != "dpo":  # the last execution has replaced it
            flags = [json.loads(line)["correct"] for line in path.read_text().splitlines()]
            assert row["value"] == pytest.approx(sum(flags) / len(flags))


def test_the_same_command_skips_every_stage_and_asks_nothing(executions: Executions) -> None:
    assert set(executions.states[0].values()) == {"finished"}
    assert set(executions.states[1].values()) == {"skipped"}
    assert list(executions.states[0]) == list(executions.states[1])
    assert executions.calls[0] == executions.calls[1]
    assert executions.contents[0] == executions.contents[1]


def test_a_changed_setting_runs_what_depends_on_it(executions: Executions) -> None:
    """Another beta: the preference optimisation, the test of its new model with 20 questions, and the results."""
    again = {stage for stage, status in executions.states[2].items() if status == "finished"}
    before, after = executions.contents[1], executions.contents[2]
    assert before.keys() == after.keys()
    changed = {path.partition("/")[0].partition("-")[2] for path in before if before[path] != after[path]}
    assert again == {"dpo", "test-dpo", "results"}
    # Other answers may come to the same accuracies.
    assert changed - {"results"} == {"seed1-dpo", "seed1-test-dpo"}
    assert executions.calls[2] == executions.calls[1] + 20


def walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.inputs:
        yield from walk(child)


def test_the_headline_number_leads_back_to_calls(executions: Executions) -> None:
    nodes = {node.lineage.stage: node for node in walk(executions.headline)}
    assert executions.headline.lineage.stage == "results"
    assert {"seed1-test-dpo", "seed1-dpo", "seed1-pairs", "seed1-weak-answers", "seed1-weak-model"} <= set(nodes)
    assert nodes["seed1-test-dpo"].calls == 20
    assert nodes["seed1-weak-answers"].calls == 24
    assert nodes["seed1-samples"].calls == 24 * 4
    first = nodes["seed1-weak-answers"].first_calls[0]
    assert str(first.request["prompt"]).startswith("Question: ")
    assert first.request["prompt"].endswith("Answer:")


def test_trace_tells_the_same_on_the_command_line(executions: Executions) -> None:
    arguments = ["trace", "tiny", "accuracy.dpo", "--workspace", str(executions.workspace), "--calls", "1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("accuracy.dpo = 0.")
    assert "20 calls" in result.output
    assert 'asked:    "Question: ' in result.output


def test_the_final_model_and_the_pairs_are_exported(executions: Executions, tmp_path: Path) -> None:
    arguments = ["export", "tiny", "--workspace", str(executions.workspace), "--out", str(tmp_path), "--quiet"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert result.output.split() == [str(tmp_path / "seed1-dpo")]
    weights = next(executions.run.glob("stages/*-seed1-dpo/model/model.safetensors")).read_bytes()
    assert (tmp_path / "seed1-dpo" / "model.safetensors").read_bytes() == weights
    card = (tmp_path / "seed1-dpo" / "README.md").read_text()
    assert "Stage II: DPO" in card
    assert "No GGUF file: this tokenizer cannot be written as GGUF" in card
    assert CliRunner().invoke(app, [*arguments, "--product", "seed1-pairs"]).exit_code == 0
    pairs = [json.loads(line) for line in (tmp_path / "seed1-pairs" / "trl" / "pairs.jsonl").read_text().splitlines()]
    assert pairs[0]["chosen"][0]["role"] == "assistant"


@pytest.mark.slow
def test_a_fresh_workspace_gives_the_same_bytes(executions: Executions, tmp_path: Path) -> None:
    fresh = execute_tiny(tmp_path)
    assert contents(fresh.run) == executions.contents[0]
    assert calls(tmp_path) == executions.calls[0]
