"""A plan with a pilot: the contestants answer a few prompts, and the plan's bounds become forecasts."""

from __future__ import annotations

from pathlib import Path

from strop.judging.contest.answering import addressed
from strop.judging.contest.piloting import try_contestant
from strop.methods.head_to_head.config import HeadToHeadConfig
from strop.methods.head_to_head.plan import Plan, contestants, prompts_of
from strop.runs import derive_seed


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
        told = try_contestant(
            contestant,
            [addressed(prompt, contestant.system, word_limit=config.word_limit) for prompt in prompts_of(config)],
            sampling_seed=derive_seed(config.seed, "answers", side),
            draw_seed=config.seed,
            pilot=pilot,
            workspace=workspace,
            placement=config.machine,
            quiet=quiet,
        )
        name = f"{side}-answers"
        stages[name] = stages[name].forecast(told)
    notes = (f"The answers are forecast from {pilot} of each contestant; the judge's calls are bounds.",)
    return Plan(tuple(stages.values()), (*planned.notes, *notes))
