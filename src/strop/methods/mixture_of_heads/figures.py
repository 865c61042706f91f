"""The figures of a report on heads: perplexity by arm, load balance over the steps, and which heads are used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from strop.methods.mixture_of_heads.arms import CONTROL
from strop.records.document import Bar, Bars, Curve, Estimate, HeatMap, Line, Reference

Row = Mapping[str, Any]
POINTS = 12
"""Points of a curve over the steps; each is the mean of the steps since the one before."""


def perplexity_bars(arms: Mapping[str, Row], *, title: str) -> Bars:
    """Return the arms side by side; the dense control is the level to compare with."""
    bars = []
    for name, one in arms.items():
        row = one["perplexity"]
        told = Estimate(row["value"], row["low"], row["high"], row["documents"], "ratio")
        bars.append(Bar(name, told, emphasis="moh" in name))
    references = (Reference("dense control", arms[CONTROL]["perplexity"]["value"]),) if CONTROL in arms else ()
    caption = (
        "Means over seeds, 95 % intervals over held-back documents: lower is better. Differences are more certain."
    )
    return Bars(title, caption, "perplexity", tuple(bars), references)


def balance_curves(arms: Mapping[str, Row]) -> Iterator[Curve]:
    """Yield the load-balance value over the steps of each arm that has one, a line for each seed."""
    for name, one in arms.items():
        seeds = [curve["balance"] for curve in one["curves"] if "balance" in curve]
        if not seeds:
            continue
        ends = step_ends(min(map(len, seeds)))
        lines = [[fmean(values[start:end]) for start, end in ends] for values in seeds]
        yield Curve(
            title=f"{name}: load balance over the steps",
            caption="The released scale, the mean over layers: it stays near the number of active units, and rises "
            "towards all units where every token takes the same ones. A line for each seed.",
            points=tuple(str(end) for _, end in ends),
            value_label="load-balance value",
            lines=tuple(Line(f"seed {number}", tuple(values)) for number, values in enumerate(lines)),
            mean=tuple(Estimate(fmean(values), unit="ratio") for values in zip(*lines, strict=True)),
        )


def step_ends(steps: int) -> list[tuple[int, int]]:
    """Return up to `POINTS` runs of steps that cover all of them: 5 steps are five runs of one."""
    count = min(POINTS, steps)
    cuts = [round(number * steps / count) for number in range(count + 1)]
    return list(pairwise(cuts))


def use_maps(name: str, used: Row) -> Iterator[HeatMap]:
    """Yield how much each layer uses each head, and how far each type of token goes its own way."""
    numbers = {kind: count for kind, count in used["types"].items() if count}
    layers: Sequence[Row] = used["layers"]
    places = [list(used["types"]).index(kind) for kind in numbers]
    weights = list(numbers.values())
    overall = [_overall([layer["use"][place] for place in places], weights) for layer in layers]
    rows = tuple(f"layer {number + 1}" for number in range(len(layers)))
    yield HeatMap(
        title=f"{name}: which heads are used",
        caption=f"Share of {sum(weights):,} held-back tokens that use each head of each routing layer, first seed.",
        rows=rows,
        columns=tuple(str(head) for head in range(len(overall[0]))),
        values=tuple(tuple(layer) for layer in overall),
        value_label="share of tokens",
    )
    yield HeatMap(
        title=f"{name}: types of tokens that use other heads",
        caption="Share of the chosen heads that a type of token would have to swap to be like all tokens.",
        rows=rows,
        columns=tuple(numbers),
        values=tuple(
            tuple(apart(layer["use"][place], mean) for place in places)
            for layer, mean in zip(layers, overall, strict=True)
        ),
        value_label="share of heads swapped",
    )


def _overall(use: Sequence[Sequence[float]], weights: Sequence[int]) -> list[float]:
    total = sum(weights)
    return [
        sum(row[head] * weight for row, weight in zip(use, weights, strict=True)) / total for head in range(len(use[0]))
    ]


def apart(use: Sequence[float], other: Sequence[float]) -> float:
    """Return the share of active heads in which two profiles of use differ: 0 for equal ones, 1 for disjoint ones.

    (1, 1, 0) and (1, 0, 1) share one of two heads: 0.5.
    """
    active = sum(other)
    return 0.0 if active == 0 else sum(abs(one - two) for one, two in zip(use, other, strict=True)) / 2 / active
