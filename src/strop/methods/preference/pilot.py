"""A plan with a pilot: the models of the pool answer a few speeches, and the plan's bounds become forecasts."""

from __future__ import annotations

from functools import reduce
from math import ceil, floor
from pathlib import Path
from typing import Any

from strop.judging.contest.answering import addressed
from strop.judging.contest.piloting import try_contestant
from strop.methods.preference.candidates import draw_candidates
from strop.methods.preference.config import PreferenceConfig
from strop.methods.preference.plan import told_total
from strop.methods.preference.speeches import load_speeches
from strop.models.forecasting import CallFigures, Expected, Forecast
from strop.models.lengths import Range
from strop.runs import derive_seed
from strop.training.planning import Plan, PlannedStage, Totals


def with_pilot(planned: Plan, config: PreferenceConfig, *, workspace: Path, pilot: int, quiet: bool = False) -> Plan:
    """Return the plan with forecasts of the candidates' answers in place of assumptions.

    Every model of the pool answers a few of its speeches, and the answers are kept; the judges are not tried, nor is
    the policy, whose samples come from weights that do not exist yet.

    Args:
        planned: The plan without a pilot.
        config: The settings that it was made from.
        workspace: Where the pilot's answers are kept.
        pilot: Speeches that each model answers.
        quiet: Whether to keep progress to itself.
    """
    candidates = config.candidates
    if candidates is None:
        return Plan(planned.stages, planned.total, (*planned.notes, "The ratings are files: there is nothing to try."))
    seed = derive_seed(config.seed, "labels")
    speeches = load_speeches(config.speeches, seed=config.seed).speeches
    drawn = [(speech, draw_candidates(speech.id, candidates, seed=seed)) for speech in speeches]
    told = []
    for number, contestant in enumerate(candidates.pool):
        prompts = [
            addressed(speech.text, draw.system, word_limit=candidates.word_limit)
            for speech, draws in drawn
            for draw in draws
            if draw.model == number
        ]
        if prompts:
            sampling = derive_seed(seed, "candidates", contestant.label)
            place: dict[str, Any] = {"workspace": workspace, "placement": config.machine, "quiet": quiet}
            told.append(
                try_contestant(contestant, prompts, sampling_seed=sampling, draw_seed=config.seed, pilot=pilot, **place)
            )
    stages = tuple(_forecast(stage, told) if stage.stage == "candidates" else stage for stage in planned.stages)
    total = Totals.of(stages)
    notes = [told_total(total) if note == told_total(planned.total) else note for note in planned.notes]
    note = f"The candidates are forecast from {pilot} answers of each model; all else rests on assumptions."
    return Plan(stages, total, (*notes, note))


def _forecast(stage: PlannedStage, told: list[Forecast]) -> PlannedStage:
    """Return the stage of all models with what their pilots tell together."""
    written = reduce(Expected.plus, (one.each.completion_tokens.times(one.calls) for one in told))
    rest: list[CallFigures] = [one.rest for one in told]
    seconds = reduce(Expected.plus, (one.seconds for one in rest))
    money = [one.money for one in rest if one.money is not None]
    return PlannedStage(
        stage.stage,
        stage.model,
        stage.calls,
        prompt_tokens=stage.prompt_tokens,
        completion_tokens=Range(floor(written.low), ceil(written.high)),
        stored=sum(one.stored + one.asked for one in told),
        seconds=Range(floor(seconds.low), ceil(seconds.high)),
        money=reduce(Expected.plus, money) if len(money) == len(rest) else None,
    )
