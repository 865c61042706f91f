"""The settings of a recipe's judge, and the judge that they name, once it has shown its certificate."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

from pydantic import Field

from strop.errors import UserError
from strop.judging.asking import Asking
from strop.judging.fitting.fitted import FittedJudge
from strop.judging.judge import PairJudge
from strop.judging.llm import judge_revision
from strop.judging.opening import has_learned, is_fitted, open_judge, reply_form
from strop.judging.qualifying.certificate import NO_RUBRIC, Standing, require_qualified
from strop.judging.qualifying.slices import model_family
from strop.judging.rewarding import open_reward_judge
from strop.judging.rubric import load_rubric
from strop.models.asking import Advance
from strop.models.placement import Placement, open_placed
from strop.models.protocol import Sampling
from strop.models.spec import ModelField, ModelSpec
from strop.runs.configuration import Config
from strop.runs.store import CallStore


class JudgeSettings(Config):
    """Who judges, by what, and by what right."""

    model: ModelField
    """The judge: a model, or the folder of a fitted judge or of a reward model. There is no default: nobody judges by
    accident."""
    rubric: str = "principles-v1"
    """What it judges by: a shipped rubric, or a file."""
    certificate: Path | None = Field(None, json_schema_extra={"fingerprint": False})
    """What `strop judge qualify` wrote about this judge with this rubric."""
    allow_unqualified: bool = Field(False, json_schema_extra={"fingerprint": False})
    """Use a judge without a certificate that says `qualified`; every report then says so."""
    allow_same_family: bool = Field(False, json_schema_extra={"fingerprint": False})
    """Let a judge compare models of its own family, which judges are known to favour; every report then says so."""
    per_criterion: bool = False
    """Ask by each criterion as well, in calls of their own."""
    form: Literal["auto", "text", "json"] = "auto"
    """How it is to reply: plain lines, JSON held to a schema where the server can, or what suits its kind."""
    max_tokens: int = Field(1024, ge=1)
    """Longest reply in tokens."""
    again: int = Field(1, ge=0)
    """How many more times a reply that could not be read is asked for."""
    ceiling: float = Field(0.2, ge=0, le=1)
    """Highest share of replies that may stay unreadable; more of them stop the run."""
    anchors: bool = True
    """Judge the anchor set again, to see whether the judge has drifted."""

    @property
    def asking(self) -> Asking:
        """How a model is asked."""
        form = reply_form(self.model) if self.form == "auto" else self.form
        return Asking(Sampling(max_tokens=self.max_tokens), form, self.again, self.ceiling)

    @property
    def fitted(self) -> bool:
        """Whether the judge is a folder that has learned from labels: fitted, or a reward model."""
        return has_learned(self.model.target)


def require_other_family(judge: JudgeSettings, contestants: dict[str, ModelSpec]) -> str | None:
    """Refuse a judge of a contestant's own family, and return the warning where that is allowed.

    Args:
        judge: The judge's settings.
        contestants: The models that it is to compare, by what they are called.

    Raises:
        UserError: The families are the same by name, and `allow_same_family` is not set.
    """
    family = model_family(judge.model.model)
    same = [name for name, model in contestants.items() if family is not None and model_family(model.model) == family]
    if not same:
        return None
    if judge.allow_same_family:
        return f"The judge is of the family {family!r}, as {' and '.join(same)}: judges favour their own family."
    raise UserError(
        "the judge is of the same family as a contestant",
        value=f"{judge.model.model} judges {' and '.join(same)}",
        why="judges favour texts of their own family",
        fix="choose a judge of another family, or set judge.allow_same_family: the report then says so",
    )


def open_configured(
    judge: JudgeSettings, placement: Placement, *, store: CallStore, advance: Advance | None = None
) -> AbstractContextManager[PairJudge]:
    """Open a recipe's judge where its models answer; its model is closed at the end of the block."""
    return open_judge(
        judge.model,
        rubric=None if judge.fitted else load_rubric(judge.rubric),
        store=store,
        asking=judge.asking,
        per_criterion=judge.per_criterion,
        placement=placement,
        advance=advance,
    )


def standing_of(judge: JudgeSettings, placement: Placement) -> Standing:
    """Look for a judge's certificate, before anything is spent.

    Args:
        judge: The judge's settings.
        placement: Where its model answers; its revision is part of the judge's.

    Raises:
        UserError: The judge is not qualified, and `allow_unqualified` is not set; see `require_qualified`.
    """
    if judge.certificate is None and not judge.allow_unqualified:
        # Nothing needs to be loaded to see that.
        return require_qualified(judge.model.model, NO_RUBRIC, None)
    if judge.fitted:
        revision, rubric_hash = _learned_revision(Path(judge.model.target), placement), NO_RUBRIC
    else:
        rubric = load_rubric(judge.rubric)
        model = open_placed(judge.model, placement)
        try:
            revision, rubric_hash = judge_revision(model.revision, rubric, judge.asking), rubric.hash
        finally:
            model.close()
    return require_qualified(revision, rubric_hash, judge.certificate, allow_unqualified=judge.allow_unqualified)


def _learned_revision(folder: Path, placement: Placement) -> str:
    if is_fitted(str(folder)):
        return FittedJudge.load(folder).revision
    scoring = open_reward_judge(folder, placement)
    try:
        return scoring.revision
    finally:
        scoring.reward.close()
