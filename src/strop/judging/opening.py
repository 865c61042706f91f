"""From what a user names to a judge: a fitted judge's or a reward model's folder, or a model with a rubric."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from strop.errors import UserError
from strop.judging.asking import Asking
from strop.judging.judge import PairJudge
from strop.judging.llm import LlmJudge
from strop.judging.prompts import ReplyForm
from strop.judging.rubric import Rubric
from strop.models.asking import Advance
from strop.models.placement import Placement, open_placed
from strop.models.rewards.facts import is_reward_folder
from strop.models.spec import ModelSpec, parse_model
from strop.runs.store import CallStore

FITTED_FILE = "judge.json"


def is_fitted(judge: str) -> bool:
    """Say whether `judge` names a folder that `strop judge fit` wrote."""
    return (Path(judge) / FITTED_FILE).is_file()


def has_learned(judge: str) -> bool:
    """Say whether `judge` names a folder whose judge has learned from labels and takes no rubric.

    That is what `strop judge fit` wrote, or a reward model.
    """
    return is_fitted(judge) or is_reward_folder(Path(judge))


def reply_form(spec: ModelSpec) -> ReplyForm:
    """Return how a model is asked to reply: JSON where a server may hold it to a schema, plain lines otherwise."""
    return "json" if spec.kind in ("endpoint", "vllm") else "text"


@contextmanager
def open_judge(
    judge: str | ModelSpec,
    *,
    rubric: Rubric | None,
    store: CallStore,
    asking: Asking | None = None,
    per_criterion: bool = False,
    placement: Placement | None = None,
    advance: Advance | None = None,
) -> Iterator[PairJudge]:
    """Open a judge and close its model at the end.

    Args:
        judge: A folder with a fitted judge or a reward model, or a model as everywhere else: ``builtin:NAME``, a
            folder, a URL.
        rubric: What a model judges by; a judge that has learned from labels takes none.
        store: Keeps a model's replies.
        asking: How a model is asked; by default greedy, in the form that suits its kind.
        per_criterion: Whether a model also compares by each criterion.
        placement: Where a model answers; this process by default.
        advance: Told how many replies have come.

    Raises:
        UserError: There is no such judge, or a model was given without a rubric.
    """
    spec = judge if isinstance(judge, ModelSpec) else parse_model(judge)
    if is_fitted(spec.target):
        from strop.judging.fitting.fitted import FittedJudge

        yield FittedJudge.load(Path(spec.target))
        return
    if is_reward_folder(Path(spec.target)):
        from strop.judging.rewarding import open_reward_judge

        scoring = open_reward_judge(Path(spec.target), placement, advance)
        try:
            yield scoring
        finally:
            scoring.reward.close()
        return
    if rubric is None:
        fix = "name one with --rubric"
        raise UserError("a model judges by a rubric, and none was given", value=spec.model, fix=fix)
    model = open_placed(spec, placement or Placement())
    try:
        yield LlmJudge(
            model=model,
            rubric=rubric,
            store=store,
            asking=asking or replace(Asking(), form=reply_form(spec)),
            per_criterion=per_criterion,
            advance=advance,
        )
    finally:
        model.close()
