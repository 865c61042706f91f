"""A training as data: what is to be trained, and what came of it. Both are JSON files that processes exchange."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Tag, model_validator

from strop.records.tables import atomic_path
from strop.training.settings import ContinueSettings, PreferenceSettings, RewardSettings, TrainingSettings

BEST, LOOKS = "best.safetensors", "looks.json"
"""Files of a training whose state is chosen: the best state's weights, and the figures of every look."""

Kind = Literal["sft", "dpo", "orpo", "reward", "continue"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    def write(self, path: Path) -> None:
        """Write the record to `path` as JSON, whole or not at all."""
        with atomic_path(path) as part:
            part.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the record that `write` wrote."""
        return cls.model_validate_json(path.read_text(encoding="utf-8"))


def _settings_kind(value: Any) -> str:
    if isinstance(value, RewardSettings) or (isinstance(value, dict) and "heads" in value):
        return "reward"
    if isinstance(value, ContinueSettings) or (isinstance(value, dict) and "distillation" in value):
        return "continue"
    preference = isinstance(value, PreferenceSettings) or (isinstance(value, dict) and "loss" in value)
    return "preference" if preference else "sft"


class TrainingJob(_Record):
    """One training, complete: the same job gives the same weights, in whatever process it runs."""

    kind: Kind
    """Supervised fine-tuning on `SupervisedExample` rows; DPO, ORPO or a reward model on `PreferencePair` rows; going
    on with pre-training on documents, rows of `text`."""
    model: Path
    """Folder of the model to start from."""
    rows: Path
    """Table of rows (JSONL, JSON, Parquet)."""
    out: Path
    """Folder to write: safetensors and tokenizer."""
    work: Path
    """Folder that survives a kill: checkpoints, reference log-probabilities, log. It may be removed afterwards."""
    settings: Annotated[
        Annotated[PreferenceSettings, Tag("preference")]
        | Annotated[RewardSettings, Tag("reward")]
        | Annotated[ContinueSettings, Tag("continue")]
        | Annotated[TrainingSettings, Tag("sft")],
        Discriminator(_settings_kind),
    ]
    """How to train; `PreferenceSettings` for DPO and ORPO, `RewardSettings` for a reward model, `ContinueSettings` for
    plain text."""
    seed: int
    """Seed of the row order, of adapter initialisation and of dropout."""
    reference: Path | None = None
    """DPO: folder of the reference model; null is the start."""
    teacher: Path | None = None
    """Plain text: folder of the model whose predictions are learned where the settings say `distillation`."""
    adapter: Path | None = None
    """LoRA: folder of an adapter on `model` to go on training; null starts with a fresh one."""
    development: Path | None = None
    """Reward model: table of pairs on which the best state of the training is chosen; null keeps the last. Plain text:
    documents on which the curve is watched; they choose nothing."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` is the GPU where there is one."""

    @model_validator(mode="after")
    def _kind_and_settings_agree(self) -> Self:
        loss = _settings_kind(self.settings)
        if isinstance(self.settings, PreferenceSettings):
            loss = self.settings.loss
        if loss != self.kind:
            raise ValueError(f"a job of kind {self.kind!r} has settings for {loss!r}")
        if self.development is not None and self.kind not in ("reward", "continue"):
            raise ValueError(f"a job of kind {self.kind!r} chooses no state by development pairs")
        if self.reference is not None and self.kind != "dpo":
            raise ValueError(f"a job of kind {self.kind!r} has no reference")
        distilled = isinstance(self.settings, ContinueSettings) and self.settings.distillation is not None
        if distilled != (self.teacher is not None):
            raise ValueError("a job has a 'teacher' exactly where its settings say 'distillation'")
        if self.adapter is not None and self.settings.lora is None:
            raise ValueError("a job that goes on training an adapter needs 'lora' settings")
        if self.adapter is not None and self.kind == "dpo" and self.reference is None:
            raise ValueError("a DPO that goes on training an adapter needs a 'reference'")
        return self

    def fingerprint(self) -> str:
        """Return a hash of everything that the trained weights depend on, as far as the job file tells."""
        content = self.model_dump_json(exclude={"out": True, "work": True, "settings": {"save_steps"}})
        return hashlib.sha256(content.encode()).hexdigest()


class Finding(_Record):
    """What one check found."""

    name: str
    """The check."""
    status: Literal["ok", "warn", "fail"]
    """`fail` stops a training before it starts."""
    value: str
    """What was measured."""
    why: str
    """Why it matters."""
    fix: str = ""
    """What to do where it is not `ok`."""


class TrainingOutcome(_Record):
    """What came of a training."""

    losses: tuple[float, ...]
    """Training loss of each optimiser step, unrounded."""
    curve: tuple[dict[str, float], ...]
    """All that the trainer logged, a mapping per step."""
    steps: int
    rows: int
    """Rows that were trained on."""
    dropped: int
    """Rows left out because they were too long."""
    truncated: int
    """Rows that were cut."""
    supervised_tokens: int
    """Tokens that carry loss, in one pass over the rows (both responses of a pair count)."""
    tokens: int
    """All tokens of one pass."""
    step0_loss: float
    """Loss of the starting model on the first rows, before any step."""
    wall_s: float
    """Seconds from start to saved model, this process only."""
    resumed_at: int = 0
    """Step of the checkpoint that the training continued from."""
    findings: tuple[Finding, ...] = ()
    """The checks before training, and the verdict on the curve after it."""
