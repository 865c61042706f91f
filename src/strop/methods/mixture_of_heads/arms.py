"""The arms of a comparison: which heads each layer of each arm uses. Pure; nothing here computes.

Static pruning keeps the heads that matter most at the same share, the strongest rival that needs no router.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from strop.heads.layout import HeadLayout, layout_for
from strop.heads.sharing import first_heads, heads_of_each_group, important_heads, shared_heads
from strop.heads.spreading import spread_by_importance
from strop.methods.mixture_of_heads.config import Heads

Arm = Literal["pruned", "moh"]
ARMS: tuple[Arm, ...] = ("pruned", "moh")
CONTROL, START = "dense", "start"
"""The dense model that is trained like the others, and the dense model as it was."""

Importance = Sequence[Sequence[float]]
"""What each query head of each layer matters, the larger the more. Within a layer only the order counts; between
layers it counts where heads are spread by it."""


def arm_name(heads: str, arm: Arm) -> str:
    """Return what an arm is called in stages, files and tables."""
    return f"{heads}-{arm}"


def layouts(heads: Heads, arm: Arm, importance: Importance, *, kv_groups: int) -> list[HeadLayout]:
    """Return the layout of every layer of an arm.

    Args:
        heads: The setting.
        arm: MoH, or static pruning to its share.
        importance: See `Importance`.
        kv_groups: KV groups of a layer.

    Raises:
        UserError: The share does not divide, or more heads are shared than may be active.
    """
    query_heads = len(importance[0])
    shared = shared_heads(
        heads.shared_by if heads.shared else "none",
        layers=len(importance),
        query_heads=query_heads,
        kv_groups=kv_groups,
        choice=heads.choice,
        count=heads.shared,
        importance=importance,
    )
    routed = [
        layout_for(query_heads, kv_groups, active_share=heads.active, shared=one, choice=heads.choice) for one in shared
    ]
    if heads.spread == "importance":
        routed = spread_by_importance(routed, importance)
    if arm == "moh":
        return routed
    return [
        replace(layout, shared=_kept(heads, layout, layer), active=0, choice="free")
        for layout, layer in zip(routed, importance, strict=True)
    ]


def _kept(heads: Heads, layout: HeadLayout, importance: Sequence[float]) -> tuple[int, ...]:
    """Return as many heads as a token would use, spread over the KV groups as the choice spreads them."""
    count = layout.active_heads
    if heads.shared_by == "importance":
        return important_heads(importance, count, kv_groups=layout.kv_groups, choice=heads.choice)
    if heads.choice == "per_group":
        return heads_of_each_group(layout.query_heads, layout.kv_groups, each=count // layout.kv_groups)
    return first_heads(layout.query_heads, layout.kv_groups, choice=heads.choice, count=count)
