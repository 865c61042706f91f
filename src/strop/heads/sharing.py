"""Which heads are always on: the first half (the paper), some of every KV group, or the ones that matter most (ours).

The paper gives no reason for its choice. Each rule returns head numbers that a `HeadLayout` of the same choice accepts.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Literal, get_args

from strop.errors import UserError
from strop.heads.layout import Choice

Sharing = Literal["none", "first", "per_group", "importance"]
"""No head, the first of the layer, the first of each KV group, or the most important."""

SHARINGS: tuple[Sharing, ...] = get_args(Sharing)


def first_heads(
    query_heads: int, kv_groups: int, *, choice: Choice = "free", count: int | None = None
) -> tuple[int, ...]:
    """Share the first heads of a layer (MoH section 4.4: 16 of 32, which are KV groups 0 to 3 of 8).

    Args:
        query_heads: H.
        kv_groups: G.
        choice: Among what a token chooses; KV groups stay whole unless it is free.
        count: How many; half of the heads by default, rounded down to whole groups where those stay whole.

    Raises:
        UserError: More heads than there are, or a count that cuts a KV group.
    """
    step = 1 if choice == "free" else query_heads // kv_groups
    count = query_heads // 2 // step * step if count is None else count
    _check_count(count, query_heads, step=step)
    return tuple(range(count))


def heads_of_each_group(query_heads: int, kv_groups: int, *, each: int = 1) -> tuple[int, ...]:
    """Share the first `each` heads of every KV group, so that every group has as much to do.

    Raises:
        UserError: A group has fewer heads.
    """
    size = query_heads // kv_groups
    _check_count(each, size, step=1)
    return tuple(group * size + member for group in range(kv_groups) for member in range(each))


def important_heads(
    importance_h: Sequence[float], count: int, *, kv_groups: int, choice: Choice = "free", whole_groups: bool = False
) -> tuple[int, ...]:
    """Share the most important heads of a layer, ties to the lowest.

    Args:
        importance_h: One number for each head, more is more important (`strop.heads.importance`).
        count: How many heads.
        kv_groups: G.
        choice: ``free``: the best of the layer. ``per_group``: equally many of each KV group. ``groups``: the KV groups
            with the largest sums.
        whole_groups: With ``per_group``: share whole KV groups, as with ``groups``.

    Raises:
        UserError: More heads than there are, a count that does not divide, or an importance that is no number.
    """
    heads = len(importance_h)
    size = heads // kv_groups
    if not all(isfinite(value) for value in importance_h):
        raise UserError(
            "a head's importance is no number",
            value=list(importance_h),
            fix="measure it again, and look for an overflow in the model",
        )
    whole = whole_groups or choice == "groups"
    _check_count(count, heads, step=size if whole else kv_groups if choice == "per_group" else 1)
    if whole:
        sums = [sum(importance_h[group * size : (group + 1) * size]) for group in range(kv_groups)]
        return tuple(g * size + member for g in _best(sums, count // size) for member in range(size))
    if choice == "per_group":
        parts = [importance_h[group * size : (group + 1) * size] for group in range(kv_groups)]
        each = count // kv_groups
        return tuple(group * size + member for group, part in enumerate(parts) for member in _best(part, each))
    return _best(importance_h, count)


def shared_by_importance(
    importance: Sequence[Sequence[float]],
    count: int,
    *,
    kv_groups: int,
    choice: Choice = "free",
    whole_groups: bool = False,
) -> list[tuple[int, ...]]:
    """Share the most important heads of every layer; each layer as `important_heads`.

    Args:
        importance: (layers, heads), as nested sequences: ``table.tolist()``.
        count: Shared heads of each layer.
        kv_groups: G.
        choice: Among what a token chooses.
        whole_groups: Share whole KV groups with ``per_group``.
    """
    return [
        important_heads(layer, count, kv_groups=kv_groups, choice=choice, whole_groups=whole_groups)
        for layer in importance
    ]


def shared_heads(  # the one place where a rule's name becomes heads
    rule: Sharing,
    *,
    layers: int,
    query_heads: int,
    kv_groups: int,
    choice: Choice,
    count: int | None = None,
    importance: Sequence[Sequence[float]] | None = None,
) -> list[tuple[int, ...]]:
    """Choose the shared heads of every layer by a named rule.

    Args:
        rule: A name of `SHARINGS`.
        layers: Number of layers.
        query_heads: H.
        kv_groups: G.
        choice: Among what a token chooses.
        count: Shared heads of a layer. By default half of them (``first``), or one for each KV group (``per_group``,
            ``importance``), or half of the KV groups where those are chosen whole.
        importance: (layers, heads), for ``importance``.

    Raises:
        UserError: An unknown rule, a count that does not divide, or no importance of just these layers and heads.
    """
    if rule == "none":
        return [()] * layers
    if rule == "first":
        return [first_heads(query_heads, kv_groups, choice=choice, count=count)] * layers
    if rule == "per_group":
        count = kv_groups if count is None else count
        _check_count(count, query_heads, step=kv_groups)
        return [heads_of_each_group(query_heads, kv_groups, each=count // kv_groups)] * layers
    if rule != "importance":
        raise UserError("there is no such rule for shared heads", value=rule, alternatives=SHARINGS)
    if importance is None or [len(layer) for layer in importance] != [query_heads] * layers:
        raise UserError(
            f"shared heads by importance need a number for each of {layers} x {query_heads} heads",
            value=None if importance is None else f"{len(importance)} layers",
            fix="measure it with strop.heads.importance on this very model",
        )
    if count is None:
        count = kv_groups if choice != "groups" else kv_groups // 2 * (query_heads // kv_groups)
    return shared_by_importance(importance, count, kv_groups=kv_groups, choice=choice)


def _best(values: Sequence[float], count: int) -> tuple[int, ...]:
    """Return the places of the `count` largest, ascending; ties to the lowest."""
    order = sorted(range(len(values)), key=lambda place: (-values[place], place))
    return tuple(sorted(order[:count]))


def _check_count(count: int, heads: int, *, step: int) -> None:
    if not 0 <= count <= heads or count % step:
        possible = [str(number) for number in range(0, heads + 1, step)]
        raise UserError(
            f"that many of {heads} heads cannot be shared",
            value=count,
            why=None if step == 1 else "KV groups stay whole, or all give equally many",
            alternatives=possible,
        )
