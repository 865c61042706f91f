"""What the policies are worth by the reward models, beside the initial policy, on speeches nothing was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from statistics import fmean
from typing import Any

import numpy as np

from strop.evaluation.statistics import UNBOUNDED, Interval, items_needed, paired_cluster_difference
from strop.runs import Artifact, Stage, derive_seed

GAINS = "gains.json"


def compare_policies(stage: Stage, examined: Mapping[str, Artifact], *, initial: str, seed: int) -> None:
    """Compare every policy's rewards with the initial one's, speech by speech: `gains.json`.

    Args:
        stage: Where to write.
        examined: What `examine` found of each policy, by policy; the same speeches for all.
        initial: The name of the initial policy among them.
        seed: Of the intervals.
    """
    rows = {name: one.rows() for name, one in examined.items()}
    told: dict[str, Any] = {}
    for policy, own in rows.items():
        told[policy] = {
            reward: _gain(
                [row["rewards"][reward] for row in own],
                [row["rewards"][reward] for row in rows[initial]],
                [row["id"] for row in own],
                derive_seed(seed, "gains", policy, reward),
            )
            for reward in own[0]["rewards"]
        }
    stage.write_json(told, GAINS)


def _gain(own: list[float], first: list[float], speeches: list[str], seed: int) -> dict[str, Any]:
    """Return a policy's mean reward and its paired difference from the initial policy's, with an interval."""
    generator = np.random.default_rng(seed)
    difference = paired_cluster_difference(own, first, speeches, generator, bounds=UNBOUNDED)
    return {"mean": fmean(own), "difference": interval_row(difference), "needed": items_needed(difference, 0.0)}


def interval_row(interval: Interval) -> dict[str, Any]:
    """Return an interval as JSON; an end that the data do not bound is null."""
    return {key: None if abs(value) == float("inf") else value for key, value in _numbers(interval).items()}


def _numbers(interval: Interval) -> dict[str, float]:
    told = asdict(interval)
    return {key: told[key] for key in ("estimate", "low", "high", "n")}
