"""A plan with a pilot: the base models answer a few questions, and the plan's bounds become forecasts.

The answers are kept in the workspace. Where the run asks the same (its zero-shot answers), they are not paid for twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, floor
from pathlib import Path
from random import Random

from strop.methods.weak_to_strong.config import WeakToStrongConfig
from strop.methods.weak_to_strong.plan import Plan
from strop.methods.weak_to_strong.problems import draw_problems
from strop.methods.weak_to_strong.stages import prompt_of
from strop.models.forecasting import CallFigures, Expected, forecast
from strop.models.lengths import Range
from strop.models.placement import open_placed
from strop.models.protocol import Sampling
from strop.models.spec import ModelSpec
from strop.runs.budget import Price
from strop.runs.progress import Reporter
from strop.runs.workspace import open_calls
from strop.training.planning import PlannedStage, Totals


@dataclass(frozen=True, slots=True)
class Tried:
    """What a base model's pilot told.

    Attributes:
        each: What one of its calls takes.
        price: Its price; None where it is not known.
        calls: How many calls tell it.
    """

    each: CallFigures
    price: Price | None
    calls: int


def with_pilot(plan: Plan, config: WeakToStrongConfig, *, workspace: Path, pilot: int, quiet: bool = False) -> Plan:
    """Return the plan with forecasts of answers' tokens, money and time in place of bounds.

    A model that the run trains does not exist yet: its base stands for it. Trainings are not part of the forecast.

    Args:
        plan: The plan without a pilot.
        config: The settings that it was made from.
        workspace: Where the pilot's answers are kept.
        pilot: Questions that each base model answers.
        quiet: Whether to keep progress to itself.
    """
    bases = {spec.model: spec for spec in (config.weak.model, config.strong)}
    tried = {name: _try(spec, config, workspace, pilot, quiet=quiet) for name, spec in bases.items()}
    stages = tuple(forecast_stage(stage, tried) for stage in plan.stages)
    one = Totals.of(stages)
    every = replace(
        plan.all_seeds,
        completion_tokens=one.completion_tokens.times(plan.seeds),
        seconds=None if one.seconds is None else one.seconds.times(plan.seeds),
        money=None if one.money is None else one.money.times(plan.seeds),
    )
    told = ", ".join(f"{name} {base.calls} calls" for name, base in tried.items())
    notes = (
        f"Answers' tokens, money and time are forecast from a pilot ({told}); a trained model is taken for its base.",
        f"All {plan.seeds} seeds: {every}." if plan.seeds > 1 else f"In all: {every}.",
        *(note for note in plan.notes if "No time is given" not in note and "one and decoding.max_tokens" not in note),
    )
    return replace(plan, stages=stages, one_seed=one, all_seeds=every, notes=notes)


def _try(spec: ModelSpec, config: WeakToStrongConfig, workspace: Path, pilot: int, *, quiet: bool) -> Tried:
    seed = config.seeds[0]
    prompts = [prompt_of(question, config.data) for question in draw_problems(config.data, seed=seed).train_2[0]]
    sampling = Sampling(max_tokens=config.decoding.max_tokens, stop=config.decoding.stop)
    model = open_placed(spec, config.machine)
    try:
        with (
            open_calls(workspace, "pilot", spec.model) as store,
            Reporter(quiet=quiet).progress(f"pilot: {spec.model}", pilot) as advance,
        ):
            told = forecast(
                model,
                prompts,
                sampling,
                samples=1,
                store=store,
                pilot=pilot,
                random=Random(seed),
                parallel=spec.parallel,
                advance=advance,
            )
    finally:
        model.close()
    return Tried(told.each, model.price, min(pilot, told.calls) - told.failed)


def forecast_stage(stage: PlannedStage, tried: Mapping[str, Tried]) -> PlannedStage:
    """Return a planned stage with what the pilot of its base model says; stored calls take neither money nor time.

    A trained model ends its answers where its base may run on: the base's tokens are then the most, not the least.
    """
    told = tried.get(stage.base or "")
    if not stage.calls or told is None:
        return stage
    asked = stage.calls - (stage.stored or 0)
    written, seconds = told.each.completion_tokens.times(stage.calls), told.each.seconds.times(asked)
    trained = stage.model != stage.base
    tokens = Range(stage.completion_tokens.low if trained else floor(written.low), ceil(written.high))
    fewest = tokens.low / max(1, tokens.high) if trained else 1.0
    return replace(
        stage,
        completion_tokens=tokens,
        seconds=stage.seconds or Range(floor(seconds.low * fewest), ceil(seconds.high)),
        money=None if told.price is None else _money(told.price, stage.prompt_tokens, tokens, asked / stage.calls),
    )


def _money(price: Price, read: Range, written: Range, share: float) -> Expected:
    low = price.cost(prompt_tokens=read.low, completion_tokens=written.low) * share
    high = price.cost(prompt_tokens=read.high, completion_tokens=written.high) * share
    return Expected((low + high) / 2, low, high)
