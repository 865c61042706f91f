"""The arms of a comparison: which heads each layer of each arm uses. Pure; nothing here computes.

Static pruning keeps the heads that matter most at the same share, the strongest rival that needs no router.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from strop.heads.layout import HeadLayout, layout_for
from strop.methods.mixture_of_heads.config import Heads, SharedBy

Arm = Literal["pruned", "moh"]
ARMS: tuple[Arm, ...] = ("pruned", "moh")
CONTROL, START = "dense", "start"
"""The dense model that is trained like the others, and the dense model as it was."""

Importance = Sequence[Sequence[float]]
"""What each query head of each layer matters, the larger the more; only the order within a layer counts."""


def arm_name(heads: str, arm: Arm) -> str:
    """Return what an arm is called in stages, files and tables."""
    return f"{heads}-{arm}"


def ranked(importance: Sequence[float], *, by: SharedBy) -> list[int]:
    """Return the heads of a layer, those that matter most first; of equal ones the lower number."""
    if by == "first":
        return list(range(len(importance)))
    return sorted(range(len(importance)), key=lambda head: (-importance[head], head))


def shared_heads(heads: Heads, importance: Sequence[float], *, kv_groups: int) -> tuple[int, ...]:
    """Return the heads of one layer that are always on, ascending.

    4 heads in 2 groups with importance (1, 4, 3, 2), one shared head in each group: heads 1 and 2.

    Args:
        heads: How many, among what, and by which order.
        importance: Of the layer's query heads.
        kv_groups: KV groups of the layer.
    """
    return _kept(heads.choice, heads.shared, importance, by=heads.shared_by, kv_groups=kv_groups)


def _kept(choice: str, count: int, importance: Sequence[float], *, by: SharedBy, kv_groups: int) -> tuple[int, ...]:
    """Return `count` heads of the layer, of each group, or all heads of `count` groups."""
    width = len(importance) // kv_groups
    if choice == "free":
        return tuple(sorted(ranked(importance, by=by)[:count]))
    groups = [list(importance[start : start + width]) for start in range(0, len(importance), width)]
    if choice == "per_group":
        return tuple(
            group * width + head
            for group, values in enumerate(groups)
            for head in sorted(ranked(values, by=by)[:count])
        )
    chosen = sorted(ranked([sum(values) for values in groups], by=by)[:count])
    return tuple(group * width + head for group in chosen for head in range(width))


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
    return [_layout(heads, arm, layer, kv_groups=kv_groups) for layer in importance]


def _layout(heads: Heads, arm: Arm, importance: Sequence[float], *, kv_groups: int) -> HeadLayout:
    routed = layout_for(
        len(importance),
        kv_groups,
        active_share=heads.active,
        shared=shared_heads(heads, importance, kv_groups=kv_groups),
        choice=heads.choice,
    )
    if arm == "moh":
        return routed
    width = len(importance) // kv_groups
    count = {"free": 1, "per_group": kv_groups, "groups": width}[heads.choice]
    kept = _kept(heads.choice, routed.active_heads // count, importance, by=heads.shared_by, kv_groups=kv_groups)
    return HeadLayout(query_heads=len(importance), kv_groups=kv_groups, shared=kept, active=0)
