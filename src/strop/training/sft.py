"""Supervised fine-tuning: raise the likelihood of each response and of its end token."""

from __future__ import annotations

from typing import Any

from strop.training.arguments import sft_arguments
from strop.training.job import TrainingJob
from strop.training.rendering import TokenisedRows, supervised_columns
from strop.training.weights import lora_config


def sft_trainer(job: TrainingJob, *, model: Any, tokenizer: Any, rows: TokenisedRows) -> Any:
    """Return TRL's SFT trainer for a job; its loss is averaged over the response tokens of the whole batch."""
    from datasets import Dataset

    from strop.training.trainers import SupervisedTrainer

    return SupervisedTrainer(
        model=model,
        args=sft_arguments(job),
        train_dataset=Dataset.from_dict(supervised_columns(rows)),
        processing_class=tokenizer,
        peft_config=None if job.adapter else lora_config(job.settings),
    )
