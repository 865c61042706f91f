"""One job's settings in TRL's words. Every default that TRL or transformers would decide is set on purpose here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from strop.errors import UserError
from strop.training.job import TrainingJob
from strop.training.settings import PreferenceSettings, RewardSettings, TrainingSettings

COMPLETE = "complete"
"""File that marks a checkpoint as wholly written; a kill in the middle leaves a folder without it."""
SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def processes() -> int:
    """Return how many processes train together; `accelerate launch` says so in the environment."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def accumulation_steps(settings: TrainingSettings, processes: int) -> int:
    """Return the number of micro-batches that each process adds up before an optimiser step.

    Raises:
        UserError: The batch does not divide into micro-batches of all processes.
    """
    together = settings.micro_batch_size * processes
    if settings.batch_size % together:
        fitting = [size for size in range(1, settings.batch_size + 1) if settings.batch_size % (size * processes) == 0]
        raise UserError(
            "batch_size does not divide into micro-batches",
            value=f"{settings.batch_size} / (micro_batch_size {settings.micro_batch_size} x {processes} processes)",
            why="every optimiser step must see exactly batch_size examples",
            fix="change micro_batch_size or the number of processes",
            alternatives=[str(size) for size in fitting],
        )
    return settings.batch_size // together


def use_cpu(job: TrainingJob) -> bool:
    """Return whether the job runs on the CPU.

    Raises:
        UserError: The job asks for a GPU and there is none.
    """
    import torch

    if job.device == "cuda" and not torch.cuda.is_available():
        raise UserError("no GPU to train on", value=job.device, fix="use --device cpu or --device auto")
    return job.device == "cpu" or not torch.cuda.is_available()


def checkpoint_folder(job: TrainingJob) -> Path:
    """Return where the job's checkpoints are."""
    return job.work / "checkpoints"


def common_arguments(job: TrainingJob) -> dict[str, Any]:
    """Return the arguments that SFTConfig, DPOConfig and ORPOConfig share."""
    settings, cpu = job.settings, use_cpu(job)
    length: dict[str, Any] = (
        {"max_steps": settings.max_steps} if settings.epochs is None else {"num_train_epochs": settings.epochs}
    )
    return {
        "output_dir": str(checkpoint_folder(job)),
        **length,
        "per_device_train_batch_size": settings.micro_batch_size,
        "gradient_accumulation_steps": accumulation_steps(settings, processes()),
        "learning_rate": settings.learning_rate,
        **_schedule(settings),
        "warmup_steps": settings.warmup_ratio,
        "weight_decay": settings.weight_decay,
        "adam_beta1": settings.betas[0],
        "adam_beta2": settings.betas[1],
        "max_grad_norm": settings.max_grad_norm,
        "seed": job.seed,
        "data_seed": job.seed,
        # Unset, TRL turns bf16 and gradient checkpointing on.
        "bf16": settings.precision == "bf16",
        "gradient_checkpointing": settings.gradient_checkpointing,
        "use_cpu": cpu,
        "dataloader_pin_memory": not cpu,
        "dataloader_num_workers": 0,
        "save_strategy": "steps" if settings.save_steps else "no",
        "save_steps": settings.save_steps or 1,
        # Two: the older one is the way back while the newer is being written.
        "save_total_limit": 2,
        "eval_strategy": "no",
        "logging_steps": 1,
        # On, it replaces a loss of NaN by the average of the others.
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "push_to_hub": False,
        "disable_tqdm": True,
        "remove_unused_columns": False,
    }


def _schedule(settings: TrainingSettings) -> dict[str, Any]:
    """Return the arguments that name the course of the learning rate."""
    if settings.final_rate:
        return {
            "lr_scheduler_type": "cosine_with_min_lr",
            "lr_scheduler_kwargs": {"min_lr_rate": settings.final_rate},
        }
    return {"lr_scheduler_type": SCHEDULES[settings.schedule]}


def sft_arguments(job: TrainingJob) -> Any:
    """Return TRL's SFTConfig for rows that are tokenised already."""
    from trl import SFTConfig

    return SFTConfig(
        **common_arguments(job),
        max_length=None,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )


def dpo_arguments(job: TrainingJob) -> Any:
    """Return TRL's DPOConfig: sigmoid loss, reference log-probabilities computed once before training."""
    from trl import DPOConfig

    settings = _preference(job)
    sigmoid = "sigmoid_norm" if settings.length_normalised else "sigmoid"
    losses: dict[str, Any] = {"loss_type": [sigmoid]}
    if settings.sft_weight:
        losses = {"loss_type": [sigmoid, "sft"], "loss_weights": [1.0, settings.sft_weight]}
    return DPOConfig(
        **common_arguments(job),
        **losses,
        beta=settings.beta,
        max_length=None,
        precompute_ref_log_probs=True,
        precompute_ref_batch_size=settings.micro_batch_size,
        disable_dropout=True,
    )


def orpo_arguments(job: TrainingJob) -> Any:
    """Return TRL's ORPOConfig."""
    from trl.experimental.orpo import ORPOConfig

    settings = _preference(job)
    return ORPOConfig(
        **common_arguments(job),
        beta=settings.beta,
        max_length=settings.max_length,
        disable_dropout=True,
    )


def reward_arguments(job: TrainingJob) -> Any:
    """Return TRL's RewardConfig for pairs that are tokenised already."""
    from trl import RewardConfig

    settings = job.settings
    if not isinstance(settings, RewardSettings):
        raise UserError("a reward model needs reward settings", value=type(settings).__name__)
    return RewardConfig(
        **common_arguments(job),
        max_length=None,
        center_rewards_coefficient=settings.center_rewards or None,
        disable_dropout=True,
    )


def _preference(job: TrainingJob) -> PreferenceSettings:
    if not isinstance(job.settings, PreferenceSettings):
        raise UserError("preference optimisation needs preference settings", value=type(job.settings).__name__)
    return job.settings
