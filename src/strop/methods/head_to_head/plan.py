"""What a head-to-head comparison needs, before anything is spent: calls, tokens, money where a price is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from strop.judging.contest.answering import Contestant
from strop.judging.rubric import load_rubric
from strop.methods.head_to_head.config import HeadToHeadConfig
from strop.methods.head_to_head.preflight import preflight
from strop.models.lengths import Range
from strop.records.rows import Prompt, prompt_from_json
from strop.records.tables import iter_table
from strop.training.planning import PlannedStage

ORDERS = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """What a comparison needs, and what the figures rest on."""

    stages: tuple[PlannedStage, ...]
    notes: tuple[str, ...]


def plan(config: HeadToHeadConfig, *, workspace: Path) -> Plan:
    """Return what a run of `config` needs, after a check of its models, its file and its judge.

    Args:
        config: The settings of the run.
        workspace: Where its calls would be stored; nothing is changed there.

    Raises:
        UserError: See `preflight`.
    """
    cleared = preflight(config)
    prompts = len(list(prompts_of(config)))
    judged = 0 if config.judge.fitted else prompts * ORDERS * _aspects(config)
    stages = (
        *(_answers(f"{side}-answers", contestant, prompts) for side, contestant in contestants(config).items()),
        PlannedStage(
            "comparisons",
            config.judge.model.model,
            judged,
            completion_tokens=Range(judged, judged * config.judge.max_tokens),
        ),
    )
    again = "a reply that cannot be read is asked for again; those calls are not in the plan"
    return Plan(stages, (f"{prompts} prompts; {again}.", *cleared.warnings))


def _aspects(config: HeadToHeadConfig) -> int:
    return 1 + (len(load_rubric(config.judge.rubric).criteria) if config.judge.per_criterion else 0)


def contestants(config: HeadToHeadConfig) -> Mapping[str, Contestant]:
    """Return both contestants by side."""
    return {"first": config.first, "second": config.second}


def prompts_of(config: HeadToHeadConfig) -> Iterator[Prompt]:
    """Yield as many prompts of the file as the comparison takes."""
    for number, row in enumerate(iter_table(config.prompts, fields=config.fields)):
        if number == config.limit:
            return
        yield prompt_from_json(row["prompt"])


def _answers(stage: str, contestant: Contestant, prompts: int) -> PlannedStage:
    tokens = Range(prompts, prompts * contestant.max_tokens)
    return PlannedStage(stage, contestant.model.model, prompts, completion_tokens=tokens)
