"""The settings of a self-play run, section by section, in the order in which they are used."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from strop.evaluation.benchmarks.readers import TaskSettings
from strop.judging.settings import JudgeSettings
from strop.methods.selfplay.monitors import CollapseLimits
from strop.methods.selfplay.session_config import SessionSettings
from strop.methods.selfplay.similarity import MatcherSettings
from strop.methods.selfplay.training_config import TrainingSetSettings
from strop.models.spec import ModelField
from strop.runs.configuration import Config
from strop.runs.shipped import DataPath
from strop.training.machine import Machine
from strop.training.settings import TrainingSettings


class Patients(Config):
    """The patients: their cards, how they behave, and which of them only look on."""

    cards: tuple[DataPath, ...] = Field(min_length=1)
    """Files of cards, in our layout or the published one."""
    behaviours: DataPath
    """The library of behaviour principles."""
    limit: int | None = Field(None, ge=2)
    """The first so many cards; null takes all."""
    development: float = Field(0.25, gt=0, lt=1)
    """Share of the cards that no training sees; on their sessions the iterations are compared."""
    passes: int = Field(1, ge=1)
    """Sessions with each training card an iteration; the published files have 4 to 16."""


class Examination(Config):
    """What is asked of the model before and after, beside the development patients."""

    tasks: dict[str, TaskSettings] = Field(default_factory=dict)
    """Benchmarks by name, each with its file; they choose nothing."""
    mode: Literal["likelihood", "generative"] = "likelihood"
    """How an answer is read: the option that the model finds likeliest, or the text that it writes."""
    limit: int | None = Field(None, ge=1)
    """The first so many items of each; null takes all."""
    every_iteration: bool = False
    """Ask every iteration's model, for a curve; otherwise the base and the chosen one."""


class Planning(Config):
    """What a plan assumes where nothing was measured; a run reads none of it."""

    tokens_per_second: tuple[float, float] | None = None
    """Slowest and fastest, prompt and answer together, over all parallel calls; null tells no time."""
    seconds_per_step: tuple[float, float] | None = None
    """Fastest and slowest optimiser step; null tells no time."""


class SelfplayConfig(Config):
    """One model plays patient and therapist and learns from its sessions (MentalArena, arXiv 2410.06845)."""

    recipe: Literal["selfplay"]
    """The method."""
    seed: int = 0
    """Of splits, sessions and trainings."""
    patients: Patients
    """Who is treated."""
    matcher: MatcherSettings = MatcherSettings()
    """What compares texts, and from which similarity on two say the same."""
    model: ModelField
    """The model that plays both roles and is trained. An endpoint can play; then `iterations` is 1 and `train` null."""
    judge: JudgeSettings
    """Who picks behaviours, writes feedback and scores plans. The published runs take a stronger model."""
    iterations: int = Field(2, ge=1)
    """Rounds of sessions and training; each starts from the model of the round before."""
    session: SessionSettings = SessionSettings()
    """How a session is held."""
    training_set: TrainingSetSettings = TrainingSetSettings()
    """What the model learns from its sessions."""
    train: TrainingSettings | None
    """How it learns; null leaves the training to the user, and the run ends with its training files."""
    examination: Examination = Examination()
    """Benchmarks before and after."""
    limits: CollapseLimits = CollapseLimits()
    """When a model that learns from itself is stopped."""
    side_by_side: int = Field(64, ge=1, json_schema_extra={"fingerprint": False})
    """Sessions that run at a time."""
    planning: Planning = Field(Planning(), json_schema_extra={"fingerprint": False})
    """What `strop plan` assumes."""
    machine: Machine = Machine()
    """Where the run takes place."""

    @model_validator(mode="after")
    def _somebody_trains(self) -> Self:
        if self.train is None and self.iterations > 1:
            raise ValueError("'train' is null: without a training the second iteration would be the first again")
        return self

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the run reads."""
        asked = [path for task in self.examination.tasks.values() for path in task.file]
        return (*self.patients.cards, self.patients.behaviours, *asked)
