"""Training on TRL, PEFT and accelerate: fine-tuning, DPO, ORPO and reward models, with checks before and after."""

from strop.training.job import Finding, Kind, TrainingJob, TrainingOutcome
from strop.training.launching import train
from strop.training.settings import (
    ContinueSettings,
    Distillation,
    Launcher,
    LoraSettings,
    PreferenceSettings,
    RewardSettings,
    TrainingSettings,
)

__all__ = [
    "ContinueSettings",
    "Distillation",
    "Finding",
    "Kind",
    "Launcher",
    "LoraSettings",
    "PreferenceSettings",
    "RewardSettings",
    "TrainingJob",
    "TrainingOutcome",
    "TrainingSettings",
    "train",
]
