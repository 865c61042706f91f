"""The doctor passes on a sane set-up and names what is broken in others; all with real models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strop.errors import UserError
from strop.methods import RECIPES
from strop.methods.weak_to_strong.config import WeakToStrongConfig
from strop.methods.weak_to_strong.doctor import examine_recipe
from strop.runs.configuration import load_recipe
from strop.training import Finding

SMALL = ["data.train_1=40", "data.train_2=20", "data.test=20"]
ONE_PREFERENCE = "stage_two=null"


def load(*sets: str) -> WeakToStrongConfig:
    config = load_recipe("weak_to_strong/demo", sets=sets, recipes=RECIPES).config
    assert isinstance(config, WeakToStrongConfig)
    return config


def examine(*sets: str) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine_recipe(load(*sets))}


def failed(findings: dict[str, Finding]) -> set[str]:
    return {name for name, finding in findings.items() if finding.status == "fail"}


Write = Callable[[str, list[dict[str, Any]]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def _write(name: str, rows: list[dict[str, Any]]) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return _write


def solved(number: int, solution: str | None = None) -> dict[str, Any]:
    """A test-file row: question, solution, answer."""
    told = f"{number} + 1 = {number + 1}\n#### {number + 1}" if solution is None else solution
    return {"question": f"Ana has {number} cards, buys 1. How many?", "solution": told, "answer": str(number + 1)}


def files(write: Write, train_1: list[dict[str, Any]], *more: str) -> tuple[str, ...]:
    paths = {
        "train_1": write("train_1.jsonl", train_1),
        "train_2": write("train_2.jsonl", [solved(number) for number in range(20, 32)]),
        "test": write("test.jsonl", [solved(number) for number in range(40, 50)]),
    }
    data = "{kind: files, " + ", ".join(f"{split}: {path}" for split, path in paths.items()) + "}"
    return (f"data={data}", *more)


def test_sane_set_up_passes_every_check() -> None:
    findings = examine(*SMALL)
    assert {finding.status for finding in findings.values()} == {"ok"}
    for subject in ("weak", "strong", "strong, dpo"):
        for check in ("end token carries loss", "loss at step 0", "padding invariance", "share of supervised tokens"):
            assert f"{subject}: {check}" in findings
    assert findings["test: gold grades as correct"].value == "20 of 20 (mode strict)"
    # DPO starts at its own reference: ln 2, whatever the model.
    assert findings["strong, dpo: loss at step 0"].value.startswith("0.693147 ")


def test_too_small_a_max_length_fails_and_the_other_checks_still_run() -> None:
    findings = examine(*SMALL, ONE_PREFERENCE, "weak.train.max_length=30")
    assert failed(findings) == {"weak: rows"}
    assert "longer than max_length" in findings["weak: rows"].value
    assert findings["strong: loss at step 0"].status == "ok"


def test_solutions_that_are_empty_fail(write: Write) -> None:
    sets = files(write, [solved(number, "") for number in range(8)], ONE_PREFERENCE)
    findings = examine(*sets)
    assert "train_1: gold solutions" in failed(findings)
    assert findings["train_1: gold solutions"].value == "0 of 8 questions have one"


def test_some_empty_solutions_are_counted(write: Write) -> None:
    findings = examine(*files(write, [solved(0, ""), *(solved(number) for number in range(1, 8))], ONE_PREFERENCE))
    assert findings["train_1: gold solutions"].status == "warn"
    assert findings["train_1: gold solutions"].value == "7 of 8 questions have one"


def test_a_key_that_gold_does_not_use_fails(write: Write) -> None:
    findings = examine(*files(write, [solved(number) for number in range(8)], ONE_PREFERENCE, "key=math"))
    assert {"train_1: answer key", "train_1: gold grades as correct"} <= failed(findings)


def test_an_end_token_inside_a_solution_is_seen_by_the_grader(write: Write) -> None:
    """Rendering writes the end token once, so training is sane; but `7<eos>` is no answer that equals 7."""
    rows = [solved(number, f"{number} + 1 = {number + 1}\n#### {number + 1}<eos>") for number in range(8)]
    findings = examine(*files(write, rows, ONE_PREFERENCE))
    assert failed(findings) == {"train_1: gold grades as correct"}


def test_a_context_too_short_for_the_demonstrations_is_a_warning() -> None:
    """The base has 512 positions: a prompt, whatever its length, and 512 tokens of answer do not fit."""
    findings = examine(*SMALL, ONE_PREFERENCE, "decoding.max_tokens=512")
    assert findings["strong: context"].status == "warn"


def test_an_untrained_weak_model_is_asked(tmp_path: Path) -> None:
    """The untrained story base answers; three answers are read."""
    findings = examine(*SMALL, ONE_PREFERENCE, "weak.train=null", "weak.model=builtin:stories-strong")
    found = findings["weak: answers of builtin:stories-strong"]
    assert found.status in ("ok", "warn")
    assert "of 3 state a final answer" in found.value


def test_an_endpoint_that_nobody_serves_fails() -> None:
    model = "weak.model={model: 'http://127.0.0.1:9/v1#nobody', retries: 0, timeout: 2}"
    findings = examine(*SMALL, ONE_PREFERENCE, "weak.train=null", model)
    assert failed(findings) == {"weak: answers of http://127.0.0.1:9/v1#nobody"}
    assert "cannot be reached" in findings["weak: answers of http://127.0.0.1:9/v1#nobody"].value
    assert findings["strong: loss at step 0"].status == "ok"


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="without safetensors weights"):
        examine(*SMALL, f"strong={tmp_path}")


def test_an_endpoint_cannot_be_trained() -> None:
    with pytest.raises(UserError, match="'strong' is to be trained"):
        examine(*SMALL, "strong=http://127.0.0.1:9/v1#far")
