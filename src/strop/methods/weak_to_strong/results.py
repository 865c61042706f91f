"""What the experiments of a run come to: every number of the report, with its n and its interval, as `results.json`.

Seeds and items are resampled together (`strop.evaluation.statistics`); arms are compared on the same questions. An
answer that could not be graded is left out of a comparison, counted, and never taken for a wrong one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop.evaluation.statistics import (
    Interval,
    any_of_k,
    difference_interval,
    gap_recovered,
    mean_interval,
    pass_at_k,
)
from strop.methods.weak_to_strong.config import Evaluation
from strop.runs import Artifact, Stage, derive_seed

Outcomes = NDArray[np.float64]

NOT_MEASURED: dict[str, Any] = {"value": None, "low": None, "high": None, "n": 0}

EQUAL_WITHIN = 0.02
"""Two arms whose difference surely lies within this many accuracy points of zero count as equal."""


@dataclass(frozen=True, slots=True)
class Iteration:
    """One iteration of Stage I: its selection, and the same labels graded against gold for the report."""

    number: int
    selection: Artifact
    labels: Artifact


@dataclass(frozen=True, slots=True)
class Experiment:
    """One seed's artifacts that the results are computed from.

    Attributes:
        seed: The seed.
        tested: The graded test answers of each arm.
        iterations: Stage I, in order.
        sides: The graded preference pairs, or None without Stage II.
        passes: Correct samples per test question, or None where pass@k is left out.
    """

    seed: int
    tested: dict[str, Artifact]
    iterations: tuple[Iteration, ...]
    sides: Artifact | None
    passes: Artifact | None


@dataclass(frozen=True, slots=True)
class _Bootstrap:
    """How intervals are made: the same draws for every number of a run."""

    settings: Evaluation
    same_items: bool

    def arguments(self) -> dict[str, Any]:
        return {
            "resamples": self.settings.resamples,
            "level": self.settings.confidence,
            "same_items": self.same_items,
        }

    def generator(self) -> np.random.Generator:
        return np.random.default_rng(derive_seed(0, "intervals"))

    def mean(self, outcomes: Outcomes) -> dict[str, Any]:
        return interval_row(mean_interval(outcomes, self.generator(), **self.arguments()))

    def difference(self, first: Outcomes, second: Outcomes) -> Interval:
        return difference_interval(first, second, self.generator(), **self.arguments())


def interval_row(interval: Interval) -> dict[str, Any]:
    """Return an interval as JSON."""
    return {"value": interval.estimate, "low": interval.low, "high": interval.high, "n": interval.n}


def summarise(
    stage: Stage, experiments: list[Experiment], *, settings: Evaluation, final: str, same_items: bool
) -> None:
    """Write `results.json`.

    Args:
        stage: The running stage.
        experiments: One per seed.
        settings: Resamples and confidence.
        final: The arm that is the method's result.
        same_items: All seeds were tested on the same questions.
    """
    bootstrap = _Bootstrap(settings, same_items)
    outcomes = {arm: _outcomes([one.tested[arm] for one in experiments]) for arm in experiments[0].tested}
    results = {
        "seeds": [one.seed for one in experiments],
        "final": final,
        "items": int(next(iter(outcomes.values())).shape[1]),
        "confidence": settings.confidence,
        "most_frequent_answer": _most_frequent(experiments),
        "arms": {arm: _arm(values, bootstrap) for arm, values in outcomes.items()},
        "gap_recovered": _gaps(outcomes, bootstrap),
        "claims": claims(outcomes, bootstrap, final=final, iterations=len(experiments[0].iterations)),
        "iterations": [_iteration(experiments, index, bootstrap) for index in range(len(experiments[0].iterations))],
        "pairs": _pairs(experiments, bootstrap),
        "pass_at": _pass_at(experiments, settings.pass_at, bootstrap),
    }
    stage.write_json(results, "results.json")


def _outcomes(artifacts: list[Artifact], file: str = "grades.jsonl", field: str = "correct") -> Outcomes:
    """Return the outcomes of all seeds, shaped (seeds, items); NaN where an answer was not graded."""
    rows = [[row[field] for row in artifact.rows(file)] for artifact in artifacts]
    return np.array([[np.nan if value is None else float(value) for value in row] for row in rows])


def _arm(outcomes: Outcomes, bootstrap: _Bootstrap) -> dict[str, Any]:
    return {
        **bootstrap.mean(outcomes),
        "per_seed": [_mean(row) for row in outcomes],
        "not_graded": int(np.isnan(outcomes).sum()),
    }


def _mean(row: Outcomes) -> float | None:
    return float(np.nanmean(row)) if np.isfinite(row).any() else None


def _most_frequent(experiments: list[Experiment]) -> dict[str, Any]:
    """Return the accuracy of always giving the most frequent gold answer of the test set: a floor for any labels."""
    shares, n = [], 0
    for one in experiments:
        golds = [row["gold"] for row in next(iter(one.tested.values())).rows("grades.jsonl")]
        shares.append(Counter(golds).most_common(1)[0][1] / len(golds))
        n += len(golds)
    return {"value": sum(shares) / len(shares), "per_seed": shares, "n": n}


def _gaps(outcomes: dict[str, Outcomes], bootstrap: _Bootstrap) -> dict[str, Any]:
    if "ceiling" not in outcomes:
        return {}
    floor, ceiling = outcomes["floor"], outcomes["ceiling"]
    rows = {}
    for arm, model in outcomes.items():
        if arm in ("floor", "ceiling"):
            continue
        gap = gap_recovered(floor, model, ceiling, bootstrap.generator(), **bootstrap.arguments())
        recovered = gap.recovered
        rows[arm] = {
            **(interval_row(recovered) if recovered else {"value": None, "low": None, "high": None, "n": gap.gap.n}),
            "verdict": gap.verdict,
            "needed": asdict(gap.needed) if gap.needed else None,
            "per_seed": [_recovered(*rows) for rows in zip(floor, model, ceiling, strict=True)],
        }
    return rows


def _recovered(floor: Outcomes, model: Outcomes, ceiling: Outcomes) -> float | None:
    low, middle, high = (_mean(row) for row in (floor, model, ceiling))
    if low is None or middle is None or high is None or high == low:
        return None
    return (middle - low) / (high - low)


def claims(outcomes: dict[str, Outcomes], bootstrap: Any, *, final: str, iterations: int) -> list[dict[str, Any]]:
    """Hold the paper's order of the arms against the outcomes.

    Each claim is a difference of two arms. ``>``: shown when the interval lies above zero, refuted when below. ``>=``:
    shown when it lies above ``-EQUAL_WITHIN``, refuted when it lies below zero. Anything else cannot be told at this n.
    """
    hybrid = f"iteration{iterations}_hybrid"
    wanted = (
        ("naive fine-tuning is above the weak floor", "naive", "floor", ">"),
        ("Stage I is not below naive fine-tuning", hybrid, "naive", ">="),
        ("Stage I is above the weak floor", hybrid, "floor", ">"),
        ("the ceiling is not below Stage I", "ceiling", hybrid, ">="),
        ("Stage II is not below Stage I", final, hybrid, ">="),
        ("naive fine-tuning is above shuffled labels", "naive", "shuffled", ">"),
    )
    rows = []
    for text, left, right, order in wanted:
        if left in outcomes and right in outcomes and left != right:
            interval = bootstrap.difference(outcomes[left], outcomes[right])
            rows.append(
                {
                    "claim": text,
                    "left": left,
                    "right": right,
                    **interval_row(interval),
                    "verdict": _judge(interval, order),
                }
            )
    return rows


def _judge(interval: Interval, order: str) -> str:
    bound = 0.0 if order == ">" else -EQUAL_WITHIN
    if interval.low > bound:
        return "shown"
    return "refuted" if interval.high < 0 else "cannot tell at this n"


def _iteration(experiments: list[Experiment], index: int, bootstrap: _Bootstrap) -> dict[str, Any]:
    labels = [one.iterations[index].labels for one in experiments]
    decisions = [row["kept"] for one in experiments for row in one.iterations[index].selection.rows("decisions.jsonl")]
    counts = {"number": index + 1, "offered": len(decisions), "kept": sum(decisions)}
    kept = [[row["kept"] for row in artifact.rows("labels.jsonl")] for artifact in labels]
    weak = _outcomes(labels, "labels.jsonl", "weak_correct")
    icl = _outcomes(labels, "labels.jsonl", "icl_correct")
    chosen = np.where(np.array(kept), weak, np.nan)
    if not np.isfinite(chosen).any() or not np.isfinite(icl).any():
        return counts
    lift = bootstrap_lift(chosen, weak, bootstrap)
    return {
        **counts,
        "weak": bootstrap.mean(weak),
        "icl": bootstrap.mean(icl),
        "precision": bootstrap.mean(chosen),
        "precision_per_seed": [_mean(row) for row in chosen],
        "weak_per_seed": [_mean(row) for row in weak],
        "lift": lift,
        "recall": float(np.nansum(chosen) / np.nansum(weak)) if np.nansum(weak) else None,
    }


def bootstrap_lift(chosen: Outcomes, offered: Outcomes, bootstrap: Any) -> dict[str, Any]:
    """Return how much selection raises label precision over all offered labels, with an interval.

    Seeds and questions are resampled as for every other number; the selected labels are part of the offered ones, so
    both are drawn together.
    """
    generator, settings = bootstrap.generator(), bootstrap.settings
    seeds, items = offered.shape
    draws = []
    for _ in range(settings.resamples):
        rows = generator.integers(seeds, size=seeds)[:, None]
        columns = generator.integers(items, size=(1 if bootstrap.same_items else seeds, items))
        draws.append(_known_mean(chosen[rows, columns]) - _known_mean(offered[rows, columns]))
    tail = (1 - settings.confidence) / 2
    # A resample may hold no selected label at all: it says nothing about their precision.
    told = [draw for draw in draws if np.isfinite(draw)]
    low, high = np.quantile(told, [tail, 1 - tail])
    value = float(np.nanmean(chosen) - np.nanmean(offered))
    return {"value": value, "low": float(low), "high": float(high), "n": int(np.isfinite(chosen).sum())}


def _known_mean(outcomes: Outcomes) -> float:
    known = outcomes[np.isfinite(outcomes)]
    return float(known.mean()) if known.size else math.nan


def _pairs(experiments: list[Experiment], bootstrap: _Bootstrap) -> dict[str, Any] | None:
    """Return how many pairs were graded, and the shares of correct chosen and rejected sides."""
    sides = [one.sides.rows("sides.jsonl") for one in experiments if one.sides is not None]
    if not sides:
        return None
    # Seeds make different numbers of pairs: each pair is an item of its own seed, never of all.
    by_seed = _Bootstrap(bootstrap.settings, same_items=False)
    shares = {}
    for side in ("chosen", "rejected"):
        outcomes = _ragged([[row[f"{side}_correct"] for row in rows] for rows in sides])
        shares[f"{side}_correct"] = by_seed.mean(outcomes) if np.isfinite(outcomes).any() else NOT_MEASURED
    return {"graded": sum(map(len, sides)), **shares}


def _ragged(rows: Sequence[Sequence[float | None]]) -> Outcomes:
    """Return rows of different lengths as one array, NaN where a row has no value."""
    outcomes = np.full((len(rows), max(map(len, rows))), np.nan)
    for seed, row in enumerate(rows):
        outcomes[seed, : len(row)] = [np.nan if value is None else float(value) for value in row]
    return outcomes


def _pass_at(experiments: list[Experiment], ks: tuple[int, ...], bootstrap: _Bootstrap) -> list[dict[str, Any]]:
    """Return pass@k, unbiased with its interval, and as the paper counts it.

    A question with a sample that was not graded has no known number of correct ones and is left out.
    """
    seeds = [[row["flags"] for row in one.passes.rows("passes.jsonl")] for one in experiments if one.passes is not None]
    known = [flags for seed in seeds for flags in seed if None not in flags]
    if not known:
        return []
    rows = []
    for k in ks:
        estimates = _ragged(
            [[None if None in flags else pass_at_k([sum(flags)], len(flags), k) for flags in seed] for seed in seeds]
        )
        interval = bootstrap.mean(estimates)
        rows.append(
            {
                "k": k,
                "unbiased": interval["value"],
                "low": interval["low"],
                "high": interval["high"],
                "any_of_first": any_of_k(known, k),
                "n": len(known),
                "not_graded": sum(map(len, seeds)) - len(known),
            }
        )
    return rows
