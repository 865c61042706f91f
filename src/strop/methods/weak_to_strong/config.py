"""The settings of a weak-to-strong run. Where each default comes from is told in `docs/paper-index.md`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from strop.evaluation.answers import Mode
from strop.models.spec import ModelField
from strop.records import Identifier
from strop.runs.configuration import Config
from strop.training.machine import Machine
from strop.training.settings import PreferenceSettings, TrainingSettings

Arm = Literal["naive", "icl", "self_labels", "shuffled", "ceiling"]


class StoriesData(Config):
    """Arithmetic stories of our own generator, drawn anew for every seed; no question occurs in two splits."""

    kind: Literal["stories"] = "stories"
    """Stories that strop writes itself."""
    steps: int = Field(3, ge=1, le=5)
    """Changes per story: how long a solution is."""
    train_1: int = Field(2000, ge=1)
    """Stories with gold solutions that train the weak model."""
    train_2: int = Field(2000, ge=1)
    """Stories of which both models see the questions only."""
    test: int = Field(1000, ge=1)
    """Stories that every arm is tested on."""
    population: Literal["development", "evaluation"] = "evaluation"
    """Which of two independent streams to draw from: settings are chosen on `development` stories only."""


class FilesData(Config):
    """Questions in files."""

    kind: Literal["files"]
    """Files of yours, or the published ones."""
    format: Literal["gsm8k", "math", "olympicarena"] = "gsm8k"
    """How questions and gold answers stand in the files: as published for these three data sets."""
    train_1: Path | None = None
    """Questions with gold solutions that train the weak model; null where it is used as it is."""
    train_2: Path
    """Questions for both models. Gold in this file serves the report and the ceiling only."""
    test: Path
    """Questions with gold that every arm is tested on."""


class Weak(Config):
    """The weak model m, whose answers replace gold."""

    model: ModelField
    """The model to start from."""
    train: TrainingSettings | None = None
    """How gold train_1 trains it; null uses it as it is."""


class Decoding(Config):
    """How answers are generated: greedily, except in Stage II."""

    max_tokens: int = Field(1024, ge=1)
    """Longest response in tokens."""
    stop: tuple[str, ...] = ("Question", "Answer")
    """Texts that end a response, beside the end token."""


class Demonstrations(Config):
    """Which of the weak model's own answers demonstrate the task to the strong model."""

    count: int = Field(4, ge=1)
    """How many."""
    choice: Literal["random", "first_correct", "ids"] = "random"
    """`random` among the answers that state one, `first_correct` (looks at gold), or the questions named by `ids`."""
    ids: tuple[Identifier, ...] = ()
    """The questions of `choice: ids`."""

    @model_validator(mode="after")
    def _ids_with_their_choice(self) -> Self:
        if (self.choice == "ids") != bool(self.ids):
            raise ValueError("'ids' and 'choice: ids' go together")
        return self


class SelectionSettings(Config):
    """What Stage I keeps."""

    top_up: int | None = Field(None, ge=1)
    """Fill a smaller selection up to this many questions with disagreeing ones (published MATH sets); null does not."""
    allow_empty: bool = False
    """Also keep questions without a final answer on either side, as three published files do."""


class StageOne(SelectionSettings):
    """Stage I: learn from the answers on which both models agree."""

    iterations: int = Field(2, ge=1)
    """Rounds of selection; each trains anew from the strong base model."""
    train: TrainingSettings
    """Fine-tuning of the strong model, the same for all of its supervised arms."""

    @property
    def selection(self) -> SelectionSettings:
        """What the selection alone depends on."""
        return SelectionSettings(top_up=self.top_up, allow_empty=self.allow_empty)


class PairSettings(Config):
    """How Stage II makes pairs of votes and weak chains."""

    keep: float = Field(0.6, gt=0, le=1)
    """Least share of the vote for a question to be used."""
    reject_weak: float = Field(0.8, gt=0, le=1)
    """Least share of the vote for a differing weak answer to be rejected."""
    pairs: Literal["gsm8k", "math"] = "gsm8k"
    """One pair a question, or up to three."""
    seed: int = 42
    """Seed of the random choice among samples; 42 is the published stream."""


class StageTwo(PairSettings):
    """Stage II: contrast the weak model's chains with votes of the Stage I model."""

    samples: int = Field(10, ge=2)
    """Sampled answers per question."""
    temperature: float = Field(1.0, gt=0)
    """Sampling temperature."""
    train: dict[str, PreferenceSettings]
    """Preference optimisations to run from the Stage I model, by name; the first is the final model."""

    @model_validator(mode="after")
    def _some_training(self) -> Self:
        if not self.train:
            raise ValueError("'train' needs at least one preference optimisation")
        return self

    @property
    def pairing(self) -> PairSettings:
        """What the pairs alone depend on, given the samples."""
        return PairSettings(keep=self.keep, reject_weak=self.reject_weak, pairs=self.pairs, seed=self.seed)


class Evaluation(Config):
    """How the arms are compared."""

    pass_at: tuple[int, ...] = (1, 10)
    """k of pass@k, for the model that Stage II samples from, on the test questions; empty leaves it out."""
    resamples: int = Field(2000, ge=200)
    """Bootstrap resamples of each interval."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Nominal coverage of the intervals."""


class WeakToStrongConfig(Config):
    """Weak-to-Strong Reasoning (Yang, Ma and Liu, 2024, arXiv 2407.13647)."""

    recipe: Literal["weak_to_strong"]
    """The method."""
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    """One whole experiment per seed: other splits, other sampling, other data order."""
    data: Annotated[StoriesData | FilesData, Field(discriminator="kind")]
    """Where questions come from."""
    key: str = "gsm8k"
    """What introduces a final answer: `gsm8k` (####), `math` (The answer is:) or the text itself; `olympicarena`."""
    mode: Mode = "compat"
    """How final answers are read and compared: `compat` as published, `strict`, or `lenient`."""
    weak: Weak
    """The supervisor."""
    strong: ModelField
    """The strong base model."""
    decoding: Decoding = Decoding()
    """Generation."""
    demonstrations: Demonstrations = Demonstrations()
    """In-context learning."""
    stage_one: StageOne
    """Supervised fine-tuning on agreed answers."""
    stage_two: StageTwo | None = None
    """Preference optimisation; null stops after Stage I."""
    arms: tuple[Arm, ...] = ("naive", "icl", "self_labels", "shuffled", "ceiling")
    """Comparisons beside the weak floor: all weak labels, in-context learning, the strong model's own zero-shot labels,
    shuffled weak labels, gold labels (the strong ceiling)."""
    evaluation: Evaluation = Evaluation()
    """Tests and intervals."""
    machine: Machine = Machine()
    """Where the run takes place."""

    @model_validator(mode="after")
    def _gold_where_needed(self) -> Self:
        if isinstance(self.data, FilesData) and self.weak.train and self.data.train_1 is None:
            raise ValueError("'weak.train' needs 'data.train_1': the gold solutions that train the weak model")
        return self
