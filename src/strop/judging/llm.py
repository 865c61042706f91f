"""A language model with a rubric as a judge."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from strop.judging.asking import Asking
from strop.judging.comparing import compare
from strop.judging.judge import Comparison, Duel
from strop.judging.prompts import PROMPT_FORMAT
from strop.judging.rating import Mode, Rating, rate
from strop.judging.rubric import Rubric
from strop.models.asking import Advance
from strop.models.protocol import TextModel
from strop.records.rows import Answer
from strop.runs.store import CallStore


@dataclass(frozen=True)
class LlmJudge:
    """A model that compares and rates by a rubric; implements `strop.judging.judge.PairJudge`.

    Attributes:
        model: Answers.
        rubric: What it looks at.
        store: Keeps its replies.
        asking: How it is asked; part of the judge's revision.
        per_criterion: Whether comparisons are also made by each criterion.
        advance: Told how many replies have come.
    """

    model: TextModel
    rubric: Rubric
    store: CallStore
    asking: Asking = field(default_factory=Asking)
    per_criterion: bool = False
    advance: Advance | None = None

    @property
    def name(self) -> str:
        """The model's name and the rubric's."""
        return f"{self.model.name} with {self.rubric.name}"

    @property
    def revision(self) -> str:
        """See `judge_revision`."""
        return judge_revision(self.model.revision, self.rubric, self.asking)

    def compare(self, items: Sequence[Duel]) -> list[Comparison]:
        """Return one comparison a duel; see `strop.judging.comparing.compare`."""
        return compare(
            self.model,
            items,
            rubric=self.rubric,
            store=self.store,
            asking=self.asking,
            per_criterion=self.per_criterion,
            advance=self.advance,
        )

    def rate(self, items: Sequence[Answer], *, mode: Mode = "all", seed: int = 0) -> list[Rating]:
        """Return one rating a response; see `strop.judging.rating.rate`."""
        return rate(
            self.model,
            items,
            rubric=self.rubric,
            store=self.store,
            asking=self.asking,
            mode=mode,
            seed=seed,
            advance=self.advance,
        )


def judge_revision(model_revision: str, rubric: Rubric, asking: Asking) -> str:
    """Return a hash over the model's revision, the rubric, the format of the prompts, and how replies are drawn."""
    content = [model_revision, rubric.hash, PROMPT_FORMAT, asking.form, asking.again, asking.sampling.to_json()]
    return hashlib.sha256(json.dumps(content, ensure_ascii=False, sort_keys=True).encode()).hexdigest()
