"""Settings and jobs: contradictions are refused, JSON is read back as it was, no heavy library is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from strop.errors import UserError
from strop.training import Launcher, PreferenceSettings, TrainingJob, TrainingSettings
from strop.training.arguments import accumulation_steps, common_arguments

JobMaker = Callable[..., TrainingJob]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 1, "max_steps": 1}, "exactly one of 'epochs' and 'max_steps'"),
        ({}, "exactly one of 'epochs' and 'max_steps'"),
        ({"epochs": 1, "learning_rat": 1}, "Extra inputs are not permitted"),
        ({"epochs": 1, "precision": "fp16"}, "'fp32' or 'bf16'"),
        ({"epochs": 1, "final_rate": 0.1}, "'final_rate' is for schedule: cosine"),
        ({"epochs": 1, "loss": "orpo", "sft_weight": 1.0}, "ORPO holds a likelihood term already"),
        ({"epochs": 1, "loss": "dpo", "nll_over": "sequence"}, "'nll_over' is for loss: orpo"),
        ({"epochs": 1, "lora": {"rank": 0}}, "greater than or equal to 1"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PreferenceSettings(learning_rate=1e-3, **changes)


@pytest.mark.parametrize(("final_rate", "last"), [(0.0, 0.0), (0.05, 1e-6)])
def test_a_cosine_ends_where_it_is_told(make_job: JobMaker, final_rate: float, last: float) -> None:
    """100 steps from 2e-5, 10 of them up: half way down it is the mean of both ends."""
    import torch
    from transformers import TrainingArguments, get_scheduler

    told = common_arguments(make_job("sft", learning_rate=2e-5, schedule="cosine", final_rate=final_rate))
    names = ("output_dir", "lr_scheduler_type", "lr_scheduler_kwargs", "learning_rate")
    arguments = TrainingArguments(**{name: told[name] for name in names if name in told}, use_cpu=True)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=arguments.learning_rate)
    course = get_scheduler(
        arguments.lr_scheduler_type,
        optimizer,
        num_warmup_steps=10,
        num_training_steps=100,
        scheduler_specific_kwargs=arguments.lr_scheduler_kwargs,
    )
    rates = []
    for _ in range(101):
        rates.append(course.get_last_lr()[0])
        optimizer.step()
        course.step()
    assert rates[10] == pytest.approx(2e-5)
    assert rates[55] == pytest.approx((2e-5 + last) / 2)
    assert rates[100] == pytest.approx(last)


@pytest.mark.parametrize("changes", [{"processes": 2}, {"accelerate_args": ("--debug",)}])
def test_inline_is_one_process(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="runs in this one process"):
        Launcher(mode="inline", **changes)


@pytest.mark.parametrize("kind", ["sft", "dpo", "orpo"])
def test_a_job_is_read_back_as_it_was(make_job: JobMaker, tmp_path: Path, kind: str) -> None:
    job = make_job(kind, lora={"target_modules": ["q_proj"]})
    job.write(tmp_path / "job.json")
    again = TrainingJob.read(tmp_path / "job.json")
    assert again == job
    assert type(again.settings) is (TrainingSettings if kind == "sft" else PreferenceSettings)
    assert again.fingerprint() == job.fingerprint()


def test_a_job_of_one_kind_with_settings_of_another(make_job: JobMaker) -> None:
    job = make_job("dpo")
    with pytest.raises(ValidationError, match="a job of kind 'sft' has settings for 'dpo'"):
        TrainingJob.model_validate({**job.model_dump(), "kind": "sft"})


@pytest.mark.parametrize(("micro", "processes", "steps"), [(8, 1, 4), (8, 2, 2), (32, 1, 1), (1, 32, 1)])
def test_accumulation(micro: int, processes: int, steps: int) -> None:
    """A batch of 32 is micro-batch x processes x steps."""
    settings = TrainingSettings(learning_rate=1e-3, epochs=1, batch_size=32, micro_batch_size=micro)
    assert accumulation_steps(settings, processes) == steps


def test_a_batch_that_does_not_divide() -> None:
    settings = TrainingSettings(learning_rate=1e-3, epochs=1, batch_size=12, micro_batch_size=8)
    with pytest.raises(UserError) as caught:
        accumulation_steps(settings, 2)
    assert "12 / (micro_batch_size 8 x 2 processes)" in str(caught.value)
    assert caught.value.alternatives == ("1", "2", "3", "6")


def test_settings_load_no_heavy_library() -> None:
    source = str(Path(__file__).resolve().parents[2] / "src")
    script = "import sys, strop.training; print({'torch', 'transformers', 'datasets', 'trl'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": source}, capture_output=True, check=True
    )
    assert done.stdout.decode().strip() == "set()"
