"""Log-likelihood: against transformers itself, and item by item against lm-evaluation-harness."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.evaluation.benchmarks.made import MMLU, committed, item, task

from strop.errors import UserError
from strop.evaluation.benchmarks.forgetting import _outcomes, harness_outcomes
from strop.evaluation.benchmarks.harness import write_harness
from strop.evaluation.benchmarks.items import Task
from strop.evaluation.benchmarks.likelihood import likeliest
from strop.evaluation.benchmarks.prompts import continued_prompt
from strop.evaluation.benchmarks.readers import TaskSettings, read_task
from strop.models.builtin import SMOLLM2_INSTALL, SMOLLM2_MODULE
from strop.models.continuations import continuation_log_probs
from strop.models.local import LocalModel
from strop.models.opening import model_folder
from strop.models.scripted import ScriptedModel
from strop.models.spec import parse_model


@pytest.fixture(autouse=True)
def tables_of_the_harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` caches what it reads in the test's own folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")


def plainly(model: LocalModel, text: str, continuation: str) -> float:
    """One pass a continuation, no batch, no padding."""
    import torch

    context = model.tokenizer(text)["input_ids"]
    whole = model.tokenizer(f"{text} {continuation}")["input_ids"]
    with torch.inference_mode():
        logits = model.model(torch.tensor([whole])).logits[0].float().log_softmax(-1)
    return float(sum(logits[place - 1, whole[place]] for place in range(len(context), len(whole))))


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_totals_equal_single_passes_of_transformers(plain_model: LocalModel, batch_size: int) -> None:
    prompts = ["Question: which?\nAnswer:", "Question: which of the following is the longest of all?\nAnswer:"]
    continuations = [["A", "B", "two words", "a longer text"], ["A", "one"]]
    found = continuation_log_probs(plain_model, prompts, continuations, batch_size=batch_size)
    for prompt, options, log_probs in zip(prompts, continuations, found, strict=True):
        assert log_probs is not None
        assert log_probs == pytest.approx([plainly(plain_model, prompt, option) for option in options], abs=1e-4)


def test_a_prompt_that_does_not_fit_has_failed(plain_model: LocalModel) -> None:
    long = item(0, options=("x" * 9000, "two"))
    found = likeliest(task(long, item(1)), plain_model)
    assert [(one.status, one.failure) for one in found] == [("failed", "context"), ("answered", None)]
    assert found[0].correct is None


def test_progress_reaches_the_number_of_items(plain_model: LocalModel) -> None:
    steps: list[int] = []
    likeliest(committed("mmlu", *MMLU), plain_model, "texts", advance=steps.append)
    assert sum(steps) == 8


def test_a_longer_text_is_no_better_for_its_length(plain_model: LocalModel) -> None:
    """The same log-probabilities, each divided by its option's characters, decide."""
    asked = task(item(0, options=("short", "a much longer option than that")))
    (total,), (per,) = likeliest(asked, plain_model, "texts"), likeliest(asked, plain_model, "texts-per-character")
    assert total.log_probs == per.log_probs
    assert total.log_probs is not None
    one, other = total.log_probs
    assert total.label == ("A" if one >= other else "B")
    assert per.label == ("A" if one / 5 >= other / 30 else "B")


def test_a_server_tells_no_log_probabilities(tmp_path: Path) -> None:
    (tmp_path / "script.yaml").write_text("default: A\n", encoding="utf-8")
    with pytest.raises(UserError, match="needs a model with weights"):
        likeliest(task(item(0)), ScriptedModel(tmp_path / "script.yaml"))


def test_the_prompt_of_letters() -> None:
    asked = task(item(0, options=("one", "two")))
    assert continued_prompt(asked, asked.items[0]) == "Question: Which is number 0?\nA. one\nB. two\nAnswer:"
    assert continued_prompt(asked, asked.items[0], scored="texts") == "Question: Which is number 0?\nAnswer:"


def test_scores_of_lm_evaluation_harness_item_by_item(
    plain_folder: Path, plain_model: LocalModel, tmp_path: Path
) -> None:
    """A tiny random Llama and the committed rows: the same items are right, and the same number of them.

    The window takes them all: the harness cuts what is longer at its beginning, strop says that it does not fit.
    """
    pytest.importorskip("lm_eval")
    tasks = [committed("mmlu", *MMLU), committed("pubmedqa", "pubmedqa.jsonl", contexts=True)]
    names = write_harness(tasks, tmp_path / "harness")
    theirs = harness_outcomes(plain_folder, names, include=tmp_path / "harness", batch_size=4)
    assert _agreement(tasks, theirs, plain_model) == (12, 12)


@pytest.mark.slow
@pytest.mark.parametrize("scored", ["labels", "texts"])
def test_smollm2_scores_as_in_lm_evaluation_harness(shared_data: Path, tmp_path: Path, scored: Any) -> None:
    """MMLU's two sets and MedMCQA's four subjects: 388 items with letters; the texts of Psychiatry's 16 options."""
    pytest.importorskip("lm_eval")
    if find_spec(SMOLLM2_MODULE) is None:
        pytest.skip(SMOLLM2_INSTALL)
    folder = shared_data / "mental_arena/benchmarks"
    files = {name: sorted(folder.glob(f"{name}_*.jsonl")) for name in ("mmlu", "medmcqa")}
    if scored == "texts":
        files = {"psychiatry": [folder / "medmcqa_Psychiatry.jsonl"]}
    tasks = [read_task(name, TaskSettings(file=tuple(paths))) for name, paths in files.items()]
    names = write_harness(tasks, tmp_path / "harness", scored=scored)
    weights = model_folder(parse_model("builtin:smollm2-135m"))
    theirs = harness_outcomes(weights, names, include=tmp_path / "harness")
    n = sum(len(task.items) for task in tasks)
    assert n == (388 if scored == "labels" else 16)
    assert _agreement(tasks, theirs, LocalModel(weights, device="cpu"), scored) == (n, n)


def _agreement(tasks: list[Task], theirs: dict[str, Any], model: LocalModel, rule: Any = "labels") -> tuple[int, int]:
    """Return how many items the harness and strop judge alike, and how many there are."""
    outcomes = [one.correct for of in theirs.values() for one in of]
    ours = [one for task in tasks for one in likeliest(task, model, rule)]
    # The harness has a table for each part, strop one task: both keep the order of the files.
    assert sum(bool(one.correct) for one in ours) == sum(outcomes)
    return sum(one.correct == outcome for one, outcome in zip(ours, outcomes, strict=True)), len(ours)


def test_the_harness_is_asked_for_by_name_where_it_is_missing(
    plain_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strop.evaluation.benchmarks.forgetting.find_spec", lambda name: None)
    with pytest.raises(UserError, match='pip install "lm-eval'):
        harness_outcomes(plain_folder, ["hellaswag"])


@pytest.mark.slow
def test_an_unknown_task_of_the_harness_is_named(plain_folder: Path) -> None:
    pytest.importorskip("lm_eval")
    with pytest.raises(UserError, match="no such task"):
        harness_outcomes(plain_folder, ["no_task_of_this_name"])


def test_of_several_filters_the_first_counts() -> None:
    replies = [
        {"doc_id": doc, "filter": name, "exact_match": doc == 0 or name == "b"} for doc in (1, 0) for name in "ab"
    ]
    assert [(one.id, one.correct) for one in _outcomes("made", replies)] == [(0, True), (1, False)]
    with pytest.raises(UserError, match="says of no item that it is right"):
        _outcomes("made", [{"doc_id": 0, "metrics": ["bleu"], "bleu": 0.3}])


def test_tasks_that_come_to_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="same name in the harness"):
        write_harness([task(item(0)), task(item(0))], tmp_path)
