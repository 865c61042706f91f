"""Preference optimisation on pairs: DPO against the starting model, and ORPO, which needs no reference."""

from __future__ import annotations

from typing import Any

from strop.training.arguments import dpo_arguments, orpo_arguments
from strop.training.job import TrainingJob
from strop.training.reference import ReferenceCache
from strop.training.rendering import TokenisedRows, dpo_columns, orpo_columns
from strop.training.settings import PreferenceSettings
from strop.training.weights import load_start, lora_config


def dpo_trainer(job: TrainingJob, *, model: Any, tokenizer: Any, rows: TokenisedRows) -> Any:
    """Return TRL's DPO trainer with the reference's log-probabilities ready.

    The reference is `model` as it is now, or the model of ``job.reference``, which is dropped once they are computed.
    """
    from datasets import Dataset

    from strop.training.trainers import DirectPreferenceTrainer

    return DirectPreferenceTrainer(
        references=ReferenceCache(job.work / "reference.safetensors", job.settings.precision),
        model=model,
        ref_model=None if job.reference is None else load_start(job.reference, job.settings),
        args=dpo_arguments(job),
        train_dataset=Dataset.from_dict(dpo_columns(rows)),
        processing_class=tokenizer,
        peft_config=None if job.adapter else lora_config(job.settings),
    )


def orpo_trainer(job: TrainingJob, *, model: Any, tokenizer: Any, rows: TokenisedRows) -> Any:
    """Return TRL's ORPO trainer with the likelihood term that the settings name."""
    from datasets import Dataset

    from strop.training.trainers import OddsRatioTrainer

    settings = job.settings
    return OddsRatioTrainer(
        nll_over_response=isinstance(settings, PreferenceSettings) and settings.nll_over == "response",
        model=model,
        args=orpo_arguments(job),
        train_dataset=Dataset.from_dict(orpo_columns(rows)),
        processing_class=tokenizer,
        peft_config=None if job.adapter else lora_config(job.settings),
    )
