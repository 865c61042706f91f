"""What the arms' losses on held-back text say: perplexities, ratios between arms, and how sure they are.

Perplexity is exp of the mean negative log-likelihood of a token. Two arms are compared on the same tokens: the ratio of
their perplexities is exp of the mean difference. Intervals resample documents, the unit that was held back; the seeds
of an arm are averaged first, and each seed's own figure stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from strop.errors import UserError
from strop.evaluation.statistics.clusters import mean_of_groups
from strop.methods.mixture_of_heads.arms import ARMS, CONTROL, START, arm_name
from strop.methods.mixture_of_heads.stages import LOSSES, OUTCOME, USE
from strop.runs import Artifact, Stage, derive_seed

Row = Mapping[str, Any]
RESULTS = "results.json"
LARGEST = 700.0
"""Nats a token above which an interval has no upper end: exp overflows."""
TARGET = 1.05
"""Perplexity over the dense control's up to which an arm is as good as wanted."""


@dataclass(frozen=True)
class Losses:
    """An arm's losses on the held-back documents.

    Attributes:
        documents: Their names, in order.
        tokens: Predicted tokens of each.
        nll: Summed negative log-likelihood, nats, a row for each seed and a column for each document.
    """

    documents: tuple[str, ...]
    tokens: NDArray[np.float64]
    nll: NDArray[np.float64]

    @classmethod
    def of(cls, seeds: Sequence[Sequence[Row]]) -> Self:
        """Add up the blocks of each document, for each seed.

        Raises:
            UserError: The seeds read other documents, or a loss is not a number.
        """
        summed = [_by_document(rows) for rows in seeds]
        names = tuple(summed[0])
        if any(tuple(one) != names for one in summed):
            raise UserError("the seeds read other held-back documents", value=f"{len(seeds)} seeds")
        tokens = np.asarray([summed[0][name][0] for name in names], dtype=np.float64)
        nll = np.asarray([[one[name][1] for name in names] for one in summed], dtype=np.float64)
        if not np.isfinite(nll).all():
            raise UserError("a loss on held-back text is not a number", fix="lower the learning rate, or use fp32")
        return cls(names, tokens, nll)


def _by_document(rows: Sequence[Row]) -> dict[str, tuple[float, float]]:
    sums: dict[str, tuple[float, float]] = {}
    for row in rows:
        tokens, nll = sums.get(str(row["document"]), (0.0, 0.0))
        sums[str(row["document"])] = (tokens + row["tokens"], nll + row["nll"])
    return sums


@dataclass(frozen=True)
class Perplexity:
    """A perplexity, or a ratio of two, with its interval over documents and each seed's own value."""

    value: float
    low: float
    high: float
    documents: int
    tokens: int
    seeds: tuple[float, ...]

    def to_row(self) -> dict[str, Any]:
        """Return it as JSON; an unbounded end is null."""
        told = asdict(self)
        return {**told, **{end: told[end] if math.isfinite(told[end]) else None for end in ("low", "high")}}


def perplexity(losses: Losses, generator: np.random.Generator) -> Perplexity:
    """Return an arm's perplexity: two documents of 10 tokens with 10 and 30 nats have exp(40 / 20) = 7.389."""
    return _exponential(losses.nll, losses.tokens, generator)


def ratio(arm: Losses, other: Losses, generator: np.random.Generator) -> Perplexity:
    """Return an arm's perplexity over another's, on the same tokens; below 1 is better than the other.

    Raises:
        UserError: The arms read other text or have other numbers of seeds.
    """
    same = arm.documents == other.documents and np.array_equal(arm.tokens, other.tokens)
    if not same or len({len(arm.nll), len(other.nll), 1}) > 2:
        raise UserError("the two arms were not measured on the same tokens and seeds", value=len(arm.documents))
    return _exponential(arm.nll - other.nll, arm.tokens, generator)


def _exponential(nll: NDArray[np.float64], tokens: NDArray[np.float64], generator: np.random.Generator) -> Perplexity:
    found = mean_of_groups(nll.mean(0), tokens, generator)
    seeds = tuple(float(np.exp(one.sum() / tokens.sum())) for one in nll)
    ends = [math.exp(end) if end < LARGEST else math.inf for end in (found.low, found.high)]
    return Perplexity(math.exp(found.estimate), ends[0], ends[1], len(tokens), int(tokens.sum()), seeds)


def summarise(
    stage: Stage,
    text: Artifact,
    start: Artifact | None,
    *,
    trained: Mapping[str, tuple[Artifact, ...]],
    starts: Mapping[str, Artifact],
    scratch: Mapping[str, tuple[Artifact, ...]],
    seed: int,
) -> None:
    """Compare the arms on held-back text: `results.json`.

    Args:
        stage: Where to write.
        text: Whose held-back documents were read; its digest is told.
        start: The dense model before training.
        trained: The arms' trainings, one a seed.
        starts: The converted arms before training.
        scratch: The small models' trainings.
        seed: Of the resampling.
    """
    found: dict[str, Any] = {"text": text.digest, "arms": {}, "starts": {}, "comparisons": [], "scratch": {}}
    losses = {name: Losses.of([one.rows(LOSSES) for one in seeds]) for name, seeds in trained.items()}
    found["arms"] = {
        name: {"perplexity": perplexity(one, _generator(seed)).to_row(), "curves": _curves(trained[name])}
        for name, one in losses.items()
    }
    before = {START: start, **starts} if start is not None else {}
    found["starts"] = {
        name: perplexity(Losses.of([one.rows(LOSSES)]), _generator(seed)).to_row() for name, one in before.items()
    }
    found["comparisons"] = list(_comparisons(losses, seed=seed))
    found["use"] = {name: seeds[0].json(USE) for name, seeds in trained.items() if (seeds[0].folder / USE).is_file()}
    small = {name: Losses.of([one.rows(LOSSES) for one in seeds]) for name, seeds in scratch.items()}
    found["scratch"] = {
        name: {
            "perplexity": perplexity(one, _generator(seed)).to_row(),
            "over_dense": None if name == CONTROL else ratio(one, small[CONTROL], _generator(seed)).to_row(),
            "curves": _curves(scratch[name]),
        }
        for name, one in small.items()
    }
    stage.write_json(found, RESULTS)


def _generator(seed: int) -> np.random.Generator:
    # The same draws for every arm: what two arms share in their intervals they share exactly.
    return np.random.default_rng(derive_seed(seed, "resampling"))


def _curves(seeds: Sequence[Artifact]) -> list[dict[str, list[float]]]:
    """Return the terms of the loss step by step, for each seed."""
    curves = [one.json(OUTCOME)["curve"] for one in seeds]
    names = ("loss", "likelihood", "divergence", "balance")
    return [{name: [step[name] for step in curve] for name in names if name in curve[0]} for curve in curves]


def _comparisons(losses: Mapping[str, Losses], *, seed: int) -> Iterator[dict[str, Any]]:
    """Yield, for each setting, MoH over static pruning, and both over the dense control."""
    settings = dict.fromkeys(name.rpartition("-")[0] for name in losses if name != CONTROL)
    for name in settings:
        pruned, routed = (losses[arm_name(name, arm)] for arm in ARMS)
        yield {
            "setting": name,
            "moh_over_pruned": ratio(routed, pruned, _generator(seed)).to_row(),
            "moh_over_dense": ratio(routed, losses[CONTROL], _generator(seed)).to_row(),
            "pruned_over_dense": ratio(pruned, losses[CONTROL], _generator(seed)).to_row(),
        }
