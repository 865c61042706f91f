"""What a run needs, before anything is spent: trainings, optimiser steps, tokens, and time where a speed is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil, floor
from pathlib import Path

from strop.methods.mixture_of_heads.arms import ARMS, CONTROL, arm_name
from strop.methods.mixture_of_heads.config import MixtureOfHeadsConfig
from strop.methods.mixture_of_heads.images import images_plan
from strop.methods.mixture_of_heads.preflight import preflight
from strop.methods.mixture_of_heads.stages import split_of
from strop.models.lengths import Range
from strop.training.planning import Plan, PlannedStage, Totals, training_steps
from strop.training.settings import ContinueSettings

CHARACTERS_PER_TOKEN = (3.0, 5.0)
"""English documentation, fewest and most."""
TEACHER_SHARE = 1 / 3
"""A teacher's forward pass over a training step without one."""


def plan(config: MixtureOfHeadsConfig, *, workspace: Path) -> Plan:
    """Return what a run of `config` needs, after a check of its files, its model and its settings.

    Args:
        config: The settings of the run.
        workspace: Where its calls would be stored; a run on heads makes none.

    Raises:
        UserError: See `preflight`.
    """
    if config.images is not None:
        return images_plan(config.images)
    shape = preflight(config)
    made = split_of(config.text, seed=config.seeds[0])
    characters = sum(len(one.text) for one in made.train)
    stages = tuple(_stages(config, characters))
    notes = [
        f"{len(made.train)} documents to learn from, {characters:,} characters; {len(made.held_back)} held back; "
        f"{made.removed} passages are left out because held-back text has them too.",
        "Held-back text is read once with every model; that time is not in the plan.",
    ]
    if shape is not None:
        notes.append(
            f"{shape.kind}: {shape.layers} layers of {shape.query_heads} heads in {shape.kv_groups} KV groups."
        )
    return Plan(stages, Totals.of(stages), tuple(notes))


def _stages(config: MixtureOfHeadsConfig, characters: int) -> Iterator[PlannedStage]:
    if config.model is not None and config.train is not None:
        base = config.model.model
        if config.stage_one is not None:
            yield _training(config, "stage-one", base, config.stage_one, characters, taught=False)
        arms = [CONTROL, *(arm_name(name, arm) for name in config.heads for arm in ARMS)]
        for seed in config.seeds:
            for arm in arms:
                taught = arm != CONTROL and config.train.distillation is not None
                yield _training(config, f"seed{seed}-{arm}", base, config.train, characters, taught=taught)
    if config.from_scratch is not None:
        names = [CONTROL, *(f"moh-{round(100 * share)}" for share in config.from_scratch.shares)]
        for seed in config.seeds:
            for name in names:
                # The planned speed is that of `model`: a small one's time is not known.
                made = _training(config, f"seed{seed}-scratch-{name}", None, config.from_scratch.train, characters)
                yield replace(made, seconds=None)


def _training(
    config: MixtureOfHeadsConfig,
    stage: str,
    base: str | None,
    settings: ContinueSettings,
    characters: int,
    *,
    taught: bool = False,
) -> PlannedStage:
    few, many = (floor(characters / per / settings.max_length) for per in reversed(CHARACTERS_PER_TOKEN))
    steps = training_steps(settings.model_copy(update={"too_long_ceiling": 0.0}), Range(max(1, few), max(1, many)))
    speed = config.planning.tokens_per_second
    factor = 1 + TEACHER_SHARE if taught else 1.0
    tokens = settings.batch_size * settings.max_length * factor
    seconds = None
    if speed is not None:
        seconds = Range(floor(steps.low * tokens / speed[1]), ceil(steps.high * tokens / speed[0]))
    return PlannedStage(stage, base, steps=steps, seconds=seconds, base=base)
