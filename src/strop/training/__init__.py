"""Training on TRL, PEFT and accelerate: supervised fine-tuning, DPO and ORPO, with checks before and after."""

from strop.training.job import Finding, Kind, TrainingJob, TrainingOutcome
from strop.training.launching import train
from strop.training.settings import Launcher, LoraSettings, PreferenceSettings, TrainingSettings

__all__ = [
    "Finding",
    "Kind",
    "Launcher",
    "LoraSettings",
    "PreferenceSettings",
    "TrainingJob",
    "TrainingOutcome",
    "TrainingSettings",
    "train",
]
