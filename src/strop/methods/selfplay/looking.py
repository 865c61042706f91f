"""The stages that look at a round: what its sessions are like, whether the model collapses, which round was best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from strop.errors import UserError
from strop.evaluation.statistics import Interval, paired_cluster_difference
from strop.methods.selfplay.collapse import Expected, stop_on_collapse, watched
from strop.methods.selfplay.monitors import (
    CollapseLimits,
    Monitors,
    card_of,
    diversity_interval,
    perplexity_interval,
    sampled,
)
from strop.methods.selfplay.session_record import SessionRecord
from strop.methods.selfplay.stages import examples_in, records_in
from strop.models.embedding import open_embedder
from strop.models.scoring import TokenScores, completion_log_probs
from strop.runs import Artifact, Stage, derive_seed
from strop.training.machine import Model, weights_of

MONITORS, WATCH, CHOSEN = "monitors.json", "watch.json", "chosen.json"
SCORES = "scores.jsonl"


def look(
    stage: Stage,
    played: Artifact,
    examples: Artifact,
    before: Sequence[Artifact],
    model: Model | None,
    *,
    embedder: str,
    seed: int,
) -> None:
    """Measure a round: `monitors.json`, and `scores.jsonl` with the log-probabilities behind the perplexity.

    Args:
        stage: Where to write.
        played: The sessions of the round.
        examples: What is learned from them.
        before: What was learned in the rounds before.
        model: The model that held the sessions; None where its weights are elsewhere, and its perplexity unknown.
        embedder: Measures the gain in diversity.
        seed: Of the drawn items and the intervals.
    """
    new = sampled(examples_in(examples), seed=seed)
    told: dict[str, Any] = {"sessions": Monitors.of(records_in(played)).to_row(), "perplexity": None}
    if model is not None and new:
        prompts, answers = [one.prompt for one in new], [one.response for one in new]
        scores = completion_log_probs(weights_of(model), prompts, answers)
        told["perplexity"] = _row(
            perplexity_interval(scores, [card_of(one) for one in new], _draws(seed, "perplexity"))
        )
        stage.write_rows(
            (
                {"id": one.id, "tokens": list(score.tokens), "log_probs": list(score.log_probs)}
                for one, score in zip(new, scores, strict=True)
            ),
            SCORES,
        )
    previous = [one for artifact in before for one in examples_in(artifact)]
    gain = None
    if previous and new:
        gain = _row(diversity_interval(new, previous, open_embedder(embedder), _draws(seed, "diversity")))
    stage.write_json({**told, "diversity_gain": gain}, MONITORS)


def _draws(seed: int, *names: str | int) -> np.random.Generator:
    return np.random.default_rng(derive_seed(seed, *names))


def _row(interval: Interval) -> dict[str, Any]:
    ends = [end if math.isfinite(end) else None for end in (interval.low, interval.high)]
    return {"estimate": interval.estimate, "low": ends[0], "high": ends[1], "n": interval.n}


def watch(
    stage: Stage,
    played: Artifact,
    first: Artifact,
    looked: tuple[Artifact, Artifact],
    *,
    limits: CollapseLimits,
    iteration: int,
    seed: int,
) -> None:
    """Hold a round against the first one: `watch.json`.

    Args:
        stage: Where to write.
        played: The sessions of the round.
        first: Those of the first round.
        looked: What was measured of both, in the same order.
        limits: The limits.
        iteration: The round.
        seed: Of the intervals.

    Raises:
        Stopped: A limit is broken.
    """
    expected = tuple(_expected(one) for one in looked)
    found = watched(
        records_in(played),
        records_in(first),
        limits,
        _draws(seed, "watch", iteration),
        expected=None if None in expected else expected,  # type: ignore[arg-type]
    )
    stop_on_collapse(found, iteration=iteration)
    stage.write_json({"iteration": iteration, "watched": [one.to_row() for one in found]}, WATCH)


def _expected(looked: Artifact) -> Expected | None:
    if not (looked.folder / SCORES).is_file():
        return None
    rows = looked.rows(SCORES)
    scores = [TokenScores(tuple(row["tokens"]), tuple(row["log_probs"])) for row in rows]
    return Expected(scores, [str(row["id"]).rpartition("#")[0] for row in rows])


def understood(record: SessionRecord) -> float | None:
    """Return how near the therapist's last understanding of a patient is to the card: the mean over the fields.

    A field about which it said nothing has no similarity and is left out; a session without any has no value.
    """
    if not record.decoding:
        return None
    known = [value for value in record.decoding[-1].similarities.values() if value is not None]
    return fmean(known) if known else None


def choose_iteration(stage: Stage, development: Mapping[str, Artifact], *, seed: int) -> None:
    """Choose the model that understands development patients best: `chosen.json`. The benchmarks choose nothing.

    The mean similarity of the last decoding is compared, by card; of equals, the earlier model stays. Differs from the
    paper, where the best iteration was taken on the test benchmarks.

    Args:
        stage: Where to write.
        development: Sessions with the development patients by the name of the model, the base first.
        seed: Of the intervals.

    Raises:
        UserError: No development session was decoded under every model.
    """
    values = {name: _understood(artifact) for name, artifact in development.items()}
    common = sorted(set.intersection(*(set(found) for found in values.values())))
    if not common:
        raise UserError(
            "no development session tells which iteration is best",
            value=f"{len(values)} models",
            why="the therapist's understanding was never compared: the decoder is off, or every session failed",
            fix="set session.decoder: true, give more development cards, or set iterations: 1",
        )
    means = {name: fmean(found[key] for key in common) for name, found in values.items()}
    base = next(iter(values))
    cards = [key.rpartition("#")[0] for key in common]
    gains = {
        name: _row(
            paired_cluster_difference(
                [found[key] for key in common],
                [values[base][key] for key in common],
                cards,
                _draws(seed, "development", name),
                bounds=(-2.0, 2.0),
            )
        )
        for name, found in values.items()
        if name != base
    }
    chosen = max(means, key=lambda name: means[name])
    stage.write_json({"chosen": chosen, "means": means, "gains": gains, "sessions": len(common)}, CHOSEN)


def _understood(played: Artifact) -> dict[str, float]:
    found = {record.id: understood(record) for record in records_in(played, "development")}
    return {key: value for key, value in found.items() if value is not None}
