"""A contest between scripted models, in stages of a real run."""

from __future__ import annotations

import json
from typing import Any

from strop.judging.contest.answering import Contestant, respond
from strop.judging.contest.duels import judge
from strop.judging.contest.results import Evaluation, summarise
from strop.judging.settings import JudgeSettings
from strop.models.placement import Placement
from strop.runs import Artifact, Run, Stage

CPU = Placement(device="cpu")
PLAIN, PADDED = "a calm answer", "a calm answer and so on and on and on"
PROMPTS = [{"id": f"q{number}", "prompt": f"message {number}.", "group": f"t{number // 2}"} for number in range(24)]


def put(stage: Stage, rows: list[dict[str, Any]]) -> None:
    """Write a table."""
    stage.write_rows(rows)


def asked(run: Run) -> Artifact:
    """Return the messages as an artifact."""
    return run.stage(put, PROMPTS, name="prompts")


def answers(run: Run, model: str, side: str, **settings: Any) -> Artifact:
    """Let a scripted contestant answer all messages."""
    given = {key: settings.pop(key) for key in ("word_limit", "trained") if key in settings}
    contestant = Contestant.model_validate({"model": model, "name": side, **settings})
    return run.stage(respond, asked(run), contestant, seed=0, placement=CPU, **given, name=f"{side}-answers")


def settings_of(model: str, **changes: Any) -> JudgeSettings:
    """Return the settings of a judge without a certificate."""
    return JudgeSettings.model_validate({"model": model, "allow_unqualified": True, **changes})


def contest(
    run: Run, first: Artifact, second: Artifact, settings: JudgeSettings | Artifact
) -> tuple[Artifact, dict[str, Any]]:
    """Compare two contestants' answers; return the comparisons and what they come to."""
    prompts = asked(run)
    made = run.stage(judge, prompts, first, second, settings=settings, seed=0, placement=CPU, name="comparisons")
    results = run.stage(summarise, prompts, first, second, made, settings=Evaluation(resamples=400), name="results")
    told: dict[str, Any] = json.loads(results.path("results.json").read_text(encoding="utf-8"))
    return made, told
