"""The report of a run on mixture-of-head attention: what its artifacts say, for people.

Every number names the artifact that it was computed from, so that `strop trace` can follow it back.
"""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from strop.methods.mixture_of_heads.arms import CONTROL, START
from strop.methods.mixture_of_heads.config import MixtureOfHeadsConfig
from strop.methods.mixture_of_heads.evidence import Evidence
from strop.methods.mixture_of_heads.examining import SCORES
from strop.methods.mixture_of_heads.figures import balance_curves, perplexity_bars, use_maps
from strop.methods.mixture_of_heads.results import RESULTS, TARGET
from strop.methods.mixture_of_heads.stages import COUNTS, JUMPS
from strop.records.document import Cell, Document, Estimate, Fact, Figure, Number, Product, Table, Verdict
from strop.runs import Artifact, Run

Row = Mapping[str, Any]
Tone = Literal["plain", "good", "bad", "unclear"]
HOW = "95 % interval over held-back documents, seeds averaged"
INTENDED_USE = (
    "Models to study what choosing heads costs and saves; further training on the user's own text.",
    "No claim about tasks: perplexity on held-back text of one kind says nothing about instructions or facts.",
)


def document(config: MixtureOfHeadsConfig, run: Run, evidence: Evidence) -> Document:
    """Return the report of a finished run."""
    assert evidence.results is not None, "the recipe makes results last"
    found: Row = evidence.results.json(RESULTS)
    what = config.model.model if config.model is not None else "small models from scratch"
    return Document(
        title=f"Tokens choose their heads: {what}",
        method="Mixture-of-head attention",
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        verdicts=tuple(_verdicts(found)),
        numbers=tuple(_numbers(found, evidence.results)),
        figures=tuple(_figures(found)),
        tables=tuple(_tables(config, found, evidence)),
        warnings=tuple(_warnings(config)),
        provenance=tuple(_provenance(config, evidence)),
        products=tuple(_products(config, evidence)),
        intended_use=INTENDED_USE,
    )


def _excess(row: Row | None) -> Estimate:
    """Return a ratio of perplexities as what it is above 1."""
    if row is None:
        return Estimate(None, unit="points")
    ends = [None if row[end] is None else row[end] - 1 for end in ("low", "high")]
    return Estimate(row["value"] - 1, ends[0], ends[1], row["documents"], "points")


def _perplexity(row: Row | None) -> Estimate:
    if row is None:
        return Estimate(None, unit="ratio")
    return Estimate(row["value"], row["low"], row["high"], row["documents"], "ratio")


def _verdicts(found: Row) -> Iterator[Verdict]:
    for one in found["comparisons"]:
        yield _against_pruning(one)
        yield _against_dense(one)
    small = {name: one for name, one in found["scratch"].items() if name != CONTROL}
    for name, one in small.items():
        row = one["over_dense"]
        tone: Tone = "unclear" if _spans(row) else "good" if row["value"] < 1 else "bad"
        share = name.removeprefix("moh-")
        yield Verdict(
            f"From scratch, with {share} % of the heads: perplexity {_percent(row)} against dense on equal tokens.",
            tone,
        )


def _spans(row: Row) -> bool:
    """Return whether an interval holds equality, or has no end."""
    return row["low"] is None or row["high"] is None or row["low"] <= 1 <= row["high"]


def _percent(row: Row) -> str:
    ends = ["unbounded" if row[end] is None else f"{100 * (row[end] - 1):+.1f}" for end in ("low", "high")]
    return f"{100 * (row['value'] - 1):+.1f} % ({ends[0]} to {ends[1]})"


def _against_pruning(one: Row) -> Verdict:
    row = one["moh_over_pruned"]
    each = ", ".join(f"{100 * (value - 1):+.1f}" for value in row["seeds"])
    text = (
        f"{one['setting']}: MoH has a perplexity {_percent(row)} against static pruning to the same share, with the "
        f"same text and steps (each seed: {each} %; {row['documents']} held-back documents)"
    )
    alike = all(value < 1 for value in row["seeds"])
    if _spans(row):
        return Verdict(f"{text}: not distinguishable.", "unclear")
    if row["value"] > 1:
        return Verdict(f"{text}: pruning is better.", "bad")
    return Verdict(f"{text}." if alike else f"{text}; the seeds disagree.", "good" if alike else "unclear")


def _against_dense(one: Row) -> Verdict:
    row = one["moh_over_dense"]
    text = f"{one['setting']}: against the dense control MoH is at {_percent(row)}, static pruning at "
    text += _percent(one["pruned_over_dense"])
    tone: Tone = "good" if row["high"] is not None and row["high"] <= TARGET else "plain"
    return Verdict(f"{text}.", tone if row["value"] <= TARGET else "bad")


def _numbers(found: Row, results: Artifact) -> Iterator[Number]:
    for name, one in found["arms"].items():
        yield _number(f"perplexity.{name}", _perplexity(one["perplexity"]), results, f"perplexity: {name}")
    for one in found["comparisons"]:
        for key in ("moh_over_pruned", "moh_over_dense", "pruned_over_dense"):
            label = f"{one['setting']}: perplexity, {key.replace('_', ' ')}, per cent above"
            made = _number(
                f"{key}.{one['setting']}", _excess(one[key]), results, label, headline=key != "pruned_over_dense"
            )
            yield made
    for name, one in found["scratch"].items():
        yield _number(f"scratch.{name}", _perplexity(one["perplexity"]), results, f"from scratch, perplexity: {name}")


def _number(name: str, told: Estimate, results: Artifact, label: str, *, headline: bool = False) -> Number:
    return Number(
        name,
        told.value,
        results.name,
        RESULTS,
        low=told.low,
        high=told.high,
        n=told.n,
        unit=told.unit,
        label=label,
        note=HOW,
        headline=headline,
    )


def _figures(found: Row) -> Iterator[Figure]:
    if found["arms"]:
        yield perplexity_bars(found["arms"], title="Perplexity on held-back text")
    if found["scratch"]:
        yield perplexity_bars(found["scratch"], title="From scratch: perplexity on held-back text")
    yield from balance_curves({**found["arms"], **{f"scratch {name}": one for name, one in found["scratch"].items()}})
    for name, used in found["use"].items():
        yield from use_maps(name, used)


def _tables(config: MixtureOfHeadsConfig, found: Row, evidence: Evidence) -> Iterator[Table]:
    if found["arms"]:
        rows: list[tuple[Cell, ...]] = [
            (
                name,
                _perplexity(found["starts"].get(START if name == CONTROL else name)),
                _perplexity(one["perplexity"]),
                ", ".join(f"{value:.2f}" for value in one["perplexity"]["seeds"]),
            )
            for name, one in found["arms"].items()
        ]
        note = f"{HOW}. All arms of a seed see the same blocks in the same order."
        yield Table(
            "Perplexity before and after training", ("arm", "step 0", "trained", "each seed"), tuple(rows), (note,)
        )
    for name, jump in evidence.jumps.items():
        told = jump.json(JUMPS)
        ways = tuple((one["name"], math.exp(one["nll"])) for one in told["ways"])
        note = f"{told['blocks']} held-back blocks, {told['tokens']:,} tokens, before any training."
        title = f"{name}: the jump at step 0 under each choice of heads and router"
        yield Table(title, ("choice", "perplexity"), ways, (note,))
    for name, used in found["use"].items():
        layers = used["layers"]
        rows = [
            (number, one["balance"], one["active"], one["units"], max(use[0] for use in _spread(one)))
            for number, one in enumerate(layers)
        ]
        note = "The released scale: balanced use gives the active units, all tokens on the same ones gives all units."
        columns = ("routing layer", "load balance", "active units", "units", "most used head, share of tokens")
        yield Table(f"{name}: load balance on held-back text, first seed", columns, tuple(rows), (note,))
    if config.examination.tasks:
        yield _benchmarks(config, evidence)


def _spread(layer: Row) -> list[tuple[float]]:
    """Return how much each head is used by the type of token that uses it most."""
    return [(max(row[head] for row in layer["use"]),) for head in range(len(layer["use"][0]))]


def _benchmarks(config: MixtureOfHeadsConfig, evidence: Evidence) -> Table:
    scores = {name: one.json(SCORES) for name, one in evidence.examined.items()}
    rows = []
    for task, shots in config.examination.tasks.items():
        cells: list[Cell] = [task, shots]
        for told in scores.values():
            found = told.get(task, {})
            value = next(
                (found[key] for key in ("acc_norm,none", "acc,none", "exact_match,none") if key in found), None
            )
            cells.append(Estimate(value))
        rows.append(tuple(cells))
    return Table("Benchmarks of the first seed's models", ("task", "shots", *scores), tuple(rows))


def _warnings(config: MixtureOfHeadsConfig) -> Iterator[str]:
    if len(config.seeds) < 3:
        yield f"{len(config.seeds)} seed: a difference between arms may be that seed's."
    if config.text.files is None:
        yield "The text is documentation of Python itself, which the model may have seen: compare arms, not levels."


def _provenance(config: MixtureOfHeadsConfig, evidence: Evidence) -> Iterator[Fact]:
    counts = evidence.text.json(COUNTS)
    source = "documentation of Python's standard library" if config.text.files is None else "files"
    yield Fact("text", f"{source}, {counts['characters']:,} characters, {counts['held_back']} documents held back")
    yield Fact("sha256 of the text", counts["sha256"])
    if config.text.files is None:
        yield Fact("Python", sys.version.split()[0])
    yield Fact("seeds", ", ".join(map(str, config.seeds)))


def _products(config: MixtureOfHeadsConfig, evidence: Evidence) -> Iterator[Product]:
    base = config.model.model if config.model is not None else ""
    for name, seeds in evidence.trained.items():
        final = name.endswith("-moh")
        note = "dense control" if name == CONTROL else "tokens choose heads" if final else "static pruning"
        yield Product(name, "model", seeds[0].name, "model", base=base, final=final, note=f"{note}, first seed")
    for name, seeds in evidence.scratch.items():
        only = config.model is None and name != CONTROL
        yield Product(f"scratch-{name}", "model", seeds[0].name, "model", final=only, note="from scratch, first seed")
