"""The full published sets, where a folder is given with ``--published``: what constant answers get there.

The folder is a checkout of MentalArena's repository (``data/``); MentalLLaMA's ``test_data/`` may lie in it too.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from strop.evaluation.benchmarks.generative import read_reply_to
from strop.evaluation.benchmarks.items import Task
from strop.evaluation.benchmarks.predictions import constant
from strop.evaluation.benchmarks.readers import TaskSettings, read_task
from strop.evaluation.benchmarks.scores import score

CONSTANT = [
    ("data/PubMedQA/test_samples.jsonl", 328, "yes", 97.87),
    ("test_data/test_instruction/dreaddit.csv", 414, "no", 49.03),
    ("test_data/test_instruction/dreaddit.csv", 414, "yes", 50.97),
    ("test_data/test_instruction/Irf.csv", 2113, "yes", 64.65),
    ("data/MedMCQA/psychosis.jsonl", 314, "A", 42.36),
    ("test_data/test_instruction/CAMS.csv", 625, "alienation", 29.44),
    ("data/MedQA/psychosis.jsonl", 173, "A", 29.48),
]
"""File, rows, answer, percentage; repeated rows count, as they do in the published numbers."""


def published(folder: Path, name: str, *, duplicates: str = "keep") -> Task:
    path = folder / name
    if not path.exists():
        pytest.skip(f"{name} is not in the folder of published sets")
    return read_task(path.stem, TaskSettings.model_validate({"file": path, "duplicates": duplicates}))


@pytest.mark.parametrize(("name", "n", "label", "percentage"), CONSTANT)
def test_constant_answers(published_data: Path, name: str, n: int, label: str, percentage: float) -> None:
    task = published(published_data, name)
    scores = score(constant(task.items, label), task.labels)
    assert scores.items == n
    assert scores.accuracy is not None
    assert round(100 * scores.accuracy.estimate, 2) == percentage


def test_repetitions(published_data: Path) -> None:
    """PubMedQA: 328 rows are 282 items; MedMCQA: 5 of 314 rows come twice."""
    for name, items, repeated in (
        ("data/PubMedQA/test_samples.jsonl", 282, 46),
        ("data/MedMCQA/psychosis.jsonl", 309, 5),
    ):
        task = published(published_data, name, duplicates="remove")
        assert (len(task.items), task.duplicates) == (items, repeated)


def test_medmcqa_is_not_psychiatry(published_data: Path) -> None:
    subjects = Counter(item.part for item in published(published_data, "data/MedMCQA/psychosis.jsonl").items)
    assert (subjects["Dental"], subjects["Psychiatry"]) == (107, 0)


def test_mmlu_by_set(published_data: Path) -> None:
    """1,264 items in six sets; always D gets 44.85 % of professional medicine."""
    task = published(published_data, "data/MMLU/test")
    scores = score(constant(task.items, "D"), task.labels)
    assert {name: of.n for name, of in scores.parts.items()} == {
        "clinical_knowledge": 265,
        "college_biology": 144,
        "college_medicine": 173,
        "high_school_biology": 310,
        "medical_genetics": 100,
        "professional_medicine": 272,
    }
    assert round(100 * scores.parts["professional_medicine"].accuracy.estimate, 2) == 44.85


@pytest.mark.parametrize("name", ["data/MedQA/psychosis.jsonl", "data/MedMCQA/psychosis.jsonl", "data/MMLU/test"])
def test_empty_answers(published_data: Path, name: str) -> None:
    """The published scorer gives them 100 %, ours 0 %."""
    task = published(published_data, name)
    scores = score([read_reply_to(task, item, "", published=True) for item in task.items], task.labels)
    assert scores.accuracy is not None
    assert (scores.accuracy.estimate, scores.published_accuracy) == (0.0, 1.0)


@pytest.mark.parametrize(("name", "n"), [("CAMS", 625), ("dreaddit", 414), ("Irf", 2113)])
def test_gold_labels_of_both_formats_agree(published_data: Path, name: str, n: int) -> None:
    instruction = published(published_data, f"test_data/test_instruction/{name}.csv")
    completion = published(published_data, f"test_data/test_complete/{name}.csv")
    assert len(instruction.items) == n
    assert [item.gold for item in instruction.items] == [item.gold for item in completion.items]


def test_labels_of_cams(published_data: Path) -> None:
    counts = Counter(item.gold for item in published(published_data, "test_data/test_instruction/CAMS.csv").items)
    assert counts == {
        "alienation": 184,
        "relationship": 174,
        "none": 107,
        "jobs and career": 68,
        "medication": 64,
        "bias or abuse": 28,
    }


def test_the_two_questions_of_irf_are_reported_apart(published_data: Path) -> None:
    task = published(published_data, "test_data/test_instruction/Irf.csv")
    parts = score(constant(task.items, "yes"), task.labels).parts
    assert {name: of.n for name, of in parts.items()} == {
        "thwarted belongingness": 1057,
        "perceived burdensomeness": 1056,
    }
