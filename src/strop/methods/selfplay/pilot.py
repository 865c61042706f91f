"""A plan with a pilot: a few sessions are held, and the plan's bounds become forecasts. They are kept for the run."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from math import ceil, floor
from pathlib import Path

from strop.methods.selfplay.config import SelfplayConfig
from strop.methods.selfplay.stages import Clinic, cards_of, cast, sessions
from strop.methods.selfplay.training_set import split_cards
from strop.models.episodes import run_episodes
from strop.models.forecasting import TIME_SPREAD
from strop.models.lengths import Range
from strop.runs import derive_seed
from strop.runs.progress import Reporter
from strop.runs.workspace import open_calls
from strop.training.planning import Plan, PlannedStage, Totals

SPREAD = 1.5
"""Sessions differ by more than a few of them show: the range of tokens is so much wider than their mean."""


def with_pilot(planned: Plan, config: SelfplayConfig, *, workspace: Path, pilot: int, quiet: bool = False) -> Plan:
    """Return the plan with forecasts of the sessions in place of bounds.

    The first training patients hold their sessions of the first iteration with the model as it is. Later iterations
    are forecast from the same: their weights do not exist yet.

    Args:
        planned: The plan without a pilot.
        config: The settings that it was made from.
        workspace: Where the pilot's answers are kept.
        pilot: Sessions to hold.
        quiet: Whether to keep progress to itself.
    """
    cards = cards_of(config.patients)
    sides = split_cards([card.id for card in cards], seed=config.seed, development=config.patients.development)
    chosen = [card for card in cards if sides[card.id] == "train"][:pilot]
    episodes = sessions(chosen, Clinic.of(config), iteration=1, seed=derive_seed(config.seed, "sessions", "1"))
    with (
        open_calls(workspace, "pilot", config.model.model) as store,
        Reporter(quiet=quiet).progress("pilot: sessions", len(chosen)) as advance,
        ExitStack() as stack,
    ):
        models = cast(config.model, config.judge.model, config.machine, stack)
        before, started = store.ledger.spent, time.monotonic()
        run_episodes(episodes, models, store=store, at_once=config.side_by_side, advance=advance)
        spent, seconds = store.ledger.spent, time.monotonic() - started
    asked = spent.calls - before.calls
    if not asked:
        return Plan(planned.stages, planned.total, (*planned.notes, "The pilot's sessions were held before."))
    each = asked / len(chosen)
    stages = tuple(_forecast(stage, seconds / asked) for stage in planned.stages)
    tokens = (spent.tokens - before.tokens) / len(chosen)
    note = (
        f"{len(chosen)} sessions took {each:,.0f} calls and {tokens:,.0f} tokens each, {seconds / len(chosen):,.1f} s "
        "each side by side."
    )
    return Plan(stages, Totals.of(stages), (*planned.notes, note))


def _forecast(stage: PlannedStage, seconds_per_call: float) -> PlannedStage:
    if not stage.calls:
        return stage
    most = stage.calls * seconds_per_call
    return replace(stage, seconds=Range(floor(most / SPREAD / TIME_SPREAD), ceil(most * TIME_SPREAD)))
