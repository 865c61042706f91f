"""What a stage needs, before anything is spent: calls, tokens, optimiser steps; exact, or in bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import ceil, floor
from typing import Self

from strop.models.forecasting import Expected, Forecast
from strop.models.lengths import NOTHING, Range, weights_folder
from strop.models.placement import Placement
from strop.models.spec import ModelSpec
from strop.models.weights import folder_revision
from strop.training.settings import TrainingSettings


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """What one stage of one seed needs.

    Attributes:
        stage: Its name, without the seed in front.
        model: The model that answers or that is trained; a model that the run makes has the name of its stage.
        calls: Model calls.
        prompt_tokens: Tokens of all prompts.
        completion_tokens: Tokens of all answers; one each at least, `max_tokens` each at most.
        steps: Optimiser steps.
        stored: How many of the calls the workspace holds already; None where that cannot be known before the run.
        seconds: What it took in earlier runs of the workspace with the same settings, or a pilot's forecast; None
            where there is neither.
        base: The model whose tokenizer it has, and which stands for it in a pilot.
        money: A pilot's forecast of what its calls cost; None without a pilot, or where no price is known.
    """

    stage: str
    model: str | None = None
    calls: int = 0
    prompt_tokens: Range = NOTHING
    completion_tokens: Range = NOTHING
    steps: Range = NOTHING
    stored: int | None = None
    seconds: Range | None = None
    base: str | None = None
    money: Expected | None = None

    def forecast(self, told: Forecast) -> Self:
        """Return the stage with a pilot's figures in place of bounds."""
        written = told.each.completion_tokens.times(told.calls)
        return replace(
            self,
            completion_tokens=Range(floor(written.low), ceil(written.high)),
            stored=told.stored + told.asked,
            seconds=Range(floor(told.rest.seconds.low), ceil(told.rest.seconds.high)),
            money=told.rest.money,
        )


@dataclass(frozen=True, slots=True)
class Totals:
    """What several stages need together.

    `stored` counts the calls that are known to be in the workspace. Time and money are None where no stage has any.
    """

    trainings: int
    calls: int
    prompt_tokens: Range
    completion_tokens: Range
    steps: Range
    stored: int
    seconds: Range | None = None
    money: Expected | None = None

    @classmethod
    def of(cls, stages: Sequence[PlannedStage]) -> Self:
        """Add up stages."""
        return cls(
            trainings=sum(stage.steps != NOTHING for stage in stages),
            calls=sum(stage.calls for stage in stages),
            prompt_tokens=Range.total(stage.prompt_tokens for stage in stages),
            completion_tokens=Range.total(stage.completion_tokens for stage in stages),
            steps=Range.total(stage.steps for stage in stages),
            stored=sum(stage.stored or 0 for stage in stages),
            seconds=Range.total(timed) if (timed := [s.seconds for s in stages if s.seconds is not None]) else None,
            money=reduce(Expected.plus, costs) if (costs := [s.money for s in stages if s.money is not None]) else None,
        )

    def __str__(self) -> str:
        parts = [
            f"{self.calls:,} calls ({self.stored:,} known to be stored)",
            f"{self.prompt_tokens} prompt tokens",
            f"{self.completion_tokens} completion tokens",
            f"{self.trainings:,} trainings of {self.steps} optimiser steps",
        ]
        parts += [] if self.seconds is None else [f"{self.seconds} s for the stages whose time is known"]
        parts += [] if self.money is None else [f"money {self.money.low:,.4g} to {self.money.high:,.4g}"]
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run needs, and what the figures rest on.

    Attributes:
        stages: In the order of the run.
        total: All of them together.
        notes: What the figures rest on, for people.
    """

    stages: tuple[PlannedStage, ...]
    total: Totals
    notes: tuple[str, ...]


def training_steps(settings: TrainingSettings, rows: Range) -> Range:
    """Bound the optimiser steps of a training; rows that are too long may be dropped up to the ceiling."""
    if settings.epochs is None:
        assert settings.max_steps is not None, "the settings hold one of the two"
        return Range.exactly(settings.max_steps)
    least = max(1, rows.low - floor(rows.low * settings.too_long_ceiling))
    low, high = (ceil(settings.epochs * ceil(count / settings.batch_size)) for count in (least, rows.high))
    return Range(low, max(low, high))


def call_revisions(spec: ModelSpec, machine: Placement) -> list[str]:
    """Return what the model may be called in call keys; empty where that is known only once it is open."""
    chat = "" if spec.chat == "auto" else f"+chat-{spec.chat}"
    if spec.kind == "vllm":
        return [f"{spec.model}{chat}"]
    if machine.serve == "vllm" and spec.kind in ("local", "hf"):
        return [f"vllm:{spec.target}"]
    if spec.kind == "endpoint":
        return [f"{spec.base_url}#{spec.target}{chat}"]
    folder = weights_folder(spec)
    if folder is None:
        return []
    dtype = machine.dtype if spec.dtype == "auto" else spec.dtype
    on_cpu = (machine.device if spec.device == "auto" else spec.device) == "cpu"
    # Whether `auto` finds a GPU is not looked up: that would load torch.
    dtypes = [dtype] if dtype != "auto" else ["float32"] if on_cpu else ["float32", "bfloat16"]
    return [f"{folder_revision(folder)}{'' if one == 'float32' else f'+{one}'}{chat}" for one in dtypes]
