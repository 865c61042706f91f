"""A plan with a pilot: the contestants answer a few prompts, and the plan's bounds become forecasts."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, floor
from pathlib import Path
from random import Random
from typing import Any

from strop.judging.contest.answering import Contestant, addressed
from strop.methods.head_to_head.config import HeadToHeadConfig
from strop.methods.head_to_head.plan import Plan, contestants, prompts_of
from strop.models.forecasting import CallFigures, forecast
from strop.models.lengths import Range
from strop.models.placement import open_placed
from strop.models.protocol import Sampling
from strop.runs import derive_seed
from strop.runs.progress import Reporter
from strop.runs.workspace import open_calls
from strop.training.planning import PlannedStage


def with_pilot(planned: Plan, config: HeadToHeadConfig, *, workspace: Path, pilot: int, quiet: bool = False) -> Plan:
    """Return the plan with forecasts of the answers' tokens, money and time in place of bounds.

    The contestants answer a few prompts, and the answers are kept; the judge is not tried.

    Args:
        planned: The plan without a pilot.
        config: The settings that it was made from.
        workspace: Where the pilot's answers are kept.
        pilot: Prompts that each contestant answers.
        quiet: Whether to keep progress to itself.
    """
    stages = {stage.stage: stage for stage in planned.stages}
    for side, contestant in contestants(config).items():
        name = f"{side}-answers"
        stages[name] = _try(stages[name], config, contestant, side, workspace, pilot, quiet=quiet)
    notes = (f"The answers are forecast from {pilot} of each contestant; the judge's calls are bounds.",)
    return Plan(tuple(stages.values()), (*planned.notes, *notes))


def _try(
    stage: PlannedStage,
    config: HeadToHeadConfig,
    contestant: Contestant,
    side: str,
    workspace: Path,
    pilot: int,
    *,
    quiet: bool,
) -> PlannedStage:
    prompts = [addressed(prompt, contestant.system, word_limit=config.word_limit) for prompt in prompts_of(config)]
    seed = derive_seed(config.seed, "answers", side)
    sampling = Sampling(contestant.temperature, max_tokens=contestant.max_tokens, seed=seed)
    options: dict[str, Any] = {"samples": 1, "pilot": pilot, "random": Random(config.seed)}
    model = open_placed(contestant.model, config.machine)
    try:
        with (
            open_calls(workspace, "pilot", contestant.model.model) as store,
            Reporter(quiet=quiet).progress(f"pilot: {contestant.label}", pilot) as advance,
        ):
            parallel = contestant.model.parallel
            told = forecast(model, prompts, sampling, store=store, parallel=parallel, advance=advance, **options)
    finally:
        model.close()
    rest: CallFigures = told.rest
    written = told.each.completion_tokens.times(told.calls)
    return replace(
        stage,
        completion_tokens=Range(floor(written.low), ceil(written.high)),
        stored=told.stored + told.asked,
        seconds=Range(floor(rest.seconds.low), ceil(rest.seconds.high)),
        money=rest.money,
    )
