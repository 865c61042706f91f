"""What the comparisons come to: the first contestant's win rate, raw and at equal length, and what stands beside it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pydantic import Field

from strop.evaluation.statistics import (
    SHARE,
    Interval,
    NotEstimable,
    WinRate,
    cluster_bootstrap,
    items_needed,
    length_controlled_win_rate,
    sign_test,
)
from strop.judging.contest.duels import read_comparisons
from strop.judging.judge import Comparison
from strop.judging.summary import summarise_comparisons
from strop.runs import Artifact, Stage, derive_seed
from strop.runs.configuration import Config

SCORES: Mapping[str | None, float] = {"first": 1.0, "second": 0.0, "tie": 0.5, None: float("nan")}
"""What a verdict is to the first contestant; a failed one is missing, never a number."""


class Evaluation(Config):
    """How a comparison is summed up."""

    resamples: int = Field(2000, ge=200)
    """Bootstrap resamples of each interval."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Nominal coverage of the intervals."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """The first contestant's win rate by one criterion."""

    key: str
    win_rate: Interval | None
    failed: int


def summarise(
    stage: Stage, prompts: Artifact, first: Artifact, second: Artifact, comparisons: Artifact, *, settings: Evaluation
) -> None:
    """Sum up the comparisons: `results.json`."""
    rows = comparisons.rows()
    made = list(read_comparisons(rows))
    groups = [row["group"] for row in rows]
    differences = [row["words_first"] - row["words_second"] for row in rows]
    told = compute(made, groups, differences, settings=settings, seed=stage.seed("results"))
    asked = len(prompts.rows())
    counts = {
        "prompts": asked,
        "groups": len({row["group"] for row in prompts.rows()}),
        "compared": len(rows),
        "unanswered": {"first": asked - len(first.rows()), "second": asked - len(second.rows())},
        "cut": {
            side: sum(row["finish"] == "length" for row in made_.rows())
            for side, made_ in (("first", first), ("second", second))
        },
    }
    judge = json.loads(comparisons.path("judge.json").read_text(encoding="utf-8"))
    stage.write_json({"counts": counts, "judge": judge, **told}, "results.json")


def compute(
    comparisons: Sequence[Comparison],
    groups: Sequence[str],
    differences: Sequence[float],
    *,
    settings: Evaluation,
    seed: int,
) -> dict[str, Any]:
    """Return what the report says, as JSON.

    Args:
        comparisons: One a prompt, first and second being the contestants.
        groups: The prompts' groups.
        differences: Words of the first's answer minus the second's.
        settings: Resamples and level.
        seed: Of the intervals.
    """
    scores = [SCORES[one.verdict] for one in comparisons]
    options: dict[str, Any] = {"resamples": settings.resamples, "level": settings.confidence}
    if all(one.verdict is None for one in comparisons):
        return {"win_rate": None, "summary": _summary(comparisons, groups, seed), "criteria": [], "sign": None}

    def generator(name: str) -> np.random.Generator:
        return np.random.default_rng(derive_seed(seed, name))

    rate: WinRate = length_controlled_win_rate(scores, differences, groups, generator("win rate"), **options)
    verdicts = Counter(one.verdict for one in comparisons)
    sign = sign_test(verdicts["first"], verdicts["second"], ties=verdicts["tie"], level=settings.confidence)
    return {
        "win_rate": _row(rate),
        "needed": items_needed(rate.raw, 0.5),
        "sign": _row(sign),
        "summary": _summary(comparisons, groups, seed),
        "criteria": [
            _row(_criterion(key, comparisons, groups, generator(key), options))
            for key in dict.fromkeys(key for one in comparisons for key in one.criteria)
        ],
    }


def _criterion(
    key: str, comparisons: Sequence[Comparison], groups: Sequence[str], generator: np.random.Generator, options: Any
) -> Criterion:
    scores = [SCORES[one.criteria.get(key)] for one in comparisons]
    failed = sum(map(math.isnan, scores))
    if failed == len(scores):
        return Criterion(key, None, failed)
    return Criterion(key, cluster_bootstrap(scores, groups, generator, bounds=SHARE, **options), failed)


def _summary(comparisons: Sequence[Comparison], groups: Sequence[str], seed: int) -> dict[str, Any]:
    return summarise_comparisons(comparisons, groups=groups, seed=seed).to_row()


def _row(record: Any) -> dict[str, Any]:
    """Return a record as JSON; what is not estimable keeps its reason and loses its number."""
    row: dict[str, Any] = asdict(record)
    if isinstance(record, WinRate) and isinstance(record.length_controlled, NotEstimable):
        row["length_controlled"] = {"reason": record.length_controlled.reason}
    return row
