"""How many heads each layer uses when the whole model's share is given: more where heads matter more (ours).

MoH gives each stage of its image models a number of its own (section 4.1) and says no more of the choice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from strop.errors import UserError
from strop.heads.layout import HeadLayout

Spread = Literal["even", "importance"]
"""As many heads in every layer (the paper's language models), or fewer in layers whose heads matter less (ours)."""


def spread_by_importance(even: Sequence[HeadLayout], importance: Sequence[Sequence[float]]) -> list[HeadLayout]:
    """Leave out the heads that matter least in the whole model, as many in all as the even layouts leave out.

    A layer loses at most one unit more than in the even layouts, and keeps one to choose: importances are measured one
    head at a time, and say little of what a layer gives without most of its heads. In SmolLM2-135M at 7 of 9 heads a
    limit of one is much better than none (docs/mixture_of_heads.md).

    Two layers of four routed heads, three active; importances (1, 2, 3, 4) and (5, 6, 7, 8): two units must go, and
    both are the first layer's, which is left with two; the second keeps all four.

    Args:
        even: The layouts of an even spread, a layer each; where heads are routed, at least one unit is active.
        importance: Of every query head of every layer, comparable between layers (`gradient_importance`).

    Returns:
        The layouts with other numbers of active units; the active heads of the whole model are as many, where a unit is
        as many heads in every layer.

    Raises:
        UserError: Not one row of importances a layer, one number a head.
    """
    if [len(row) for row in importance] != [layout.query_heads for layout in even]:
        raise UserError(
            "importances do not fit the layers",
            value=f"{len(importance)} rows for {len(even)} layers",
            fix="give a row for each layer, a number for each query head",
        )
    steps = [
        (cost, number)
        for number, (layout, row) in enumerate(zip(even, importance, strict=True))
        for cost in _costs(layout, row)[: layout.units - max(1, layout.active - 1)]
    ]
    spare = sum(layout.units - layout.active for layout in even)
    # Costs of a layer ascend, so any cut of the sorted steps takes the first ones of each layer.
    dropped = Counter(number for _, number in sorted(steps)[:spare])
    return [replace(layout, active=layout.units - dropped[number]) for number, layout in enumerate(even)]


def _costs(layout: HeadLayout, importance_h: Sequence[float]) -> list[float]:
    """Return what each further unit matters that a layer gives up, the least first."""
    size = layout.heads_per_group
    if layout.choice == "groups":
        return sorted(sum(importance_h[group * size : (group + 1) * size]) for group in layout.routed_groups)
    if layout.choice == "free":
        return sorted(importance_h[head] for head in layout.routed)
    groups = [sorted(importance_h[h] for h in layout.routed if h // size == group) for group in layout.routed_groups]
    return [sum(step) for step in zip(*groups, strict=True)]
