"""Which query heads of a layer always run, which compete for each token, and how many of those a token takes.

Query head ``i`` reads the keys of KV group ``i // (query_heads // kv_groups)``, as in transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Literal

from strop.errors import UserError

Choice = Literal["free", "per_group", "groups"]
"""Among what a token chooses: all routed heads of the layer (the paper), the routed heads inside each KV group (ours,
the packed path's friend), or whole KV groups (ours, what lets decoding read fewer keys)."""

ROUNDING = 0.005
"""A share given with two decimals."""


@dataclass(frozen=True, kw_only=True)
class HeadLayout:
    """The heads of one attention layer.

    Attributes:
        query_heads: Query heads, H.
        kv_groups: Key/value heads, G; a divisor of H. Without grouped queries G is H.
        shared: Heads that every token uses, ascending.
        active: Routed units that a token takes: heads of the layer (``free``), heads of each KV group that has routed
            ones (``per_group``), or KV groups (``groups``). 0 prunes the routed heads for good.
        choice: Among what a token chooses.
    """

    query_heads: int
    kv_groups: int
    shared: tuple[int, ...]
    active: int
    choice: Choice = "free"

    def __post_init__(self) -> None:
        """Refuse what cannot be routed.

        Raises:
            UserError: Groups do not divide the heads, a shared head does not exist or is named twice, more units are
                active than are routed, or a KV group is cut where whole groups or equal parts are needed.
        """
        if self.kv_groups < 1 or self.query_heads < 1 or self.query_heads % self.kv_groups:
            raise UserError(
                "the KV heads do not divide the query heads",
                value=f"{self.query_heads} query heads, {self.kv_groups} KV heads",
                fix="give the numbers of the model's config: num_attention_heads and num_key_value_heads",
            )
        if sorted(set(self.shared)) != list(self.shared) or any(not 0 <= h < self.query_heads for h in self.shared):
            raise UserError(
                "the shared heads must be different heads of the layer, in ascending order",
                value=self.shared,
                fix=f"name heads from 0 to {self.query_heads - 1}",
            )
        self._check_groups()
        if not 0 <= self.active <= self.units:
            raise UserError(
                f"a token cannot take that many of {self.units} routed {self.unit_name}",
                value=self.active,
                fix=f"set the active ones between 0 and {self.units}, or share fewer heads",
            )

    def _check_groups(self) -> None:
        """Refuse shared heads that cut a KV group in a way that the choice cannot express."""
        if self.choice == "free":
            return
        counts = [self.shared_in(group) for group in range(self.kv_groups)]
        partial = {count for count in counts if count < self.heads_per_group}
        if self.choice == "groups" and partial - {0}:
            raise UserError(
                "the shared heads cut a KV group, and whole groups are routed",
                value=f"shared heads a group: {counts}",
                fix="share whole KV groups",
            )
        if self.choice == "per_group" and len(partial) > 1:
            raise UserError(
                "the shared heads are spread unevenly over the KV groups, and every group must choose equally many",
                value=f"shared heads a group: {counts}",
                fix="share whole KV groups, or the same number of heads in each",
            )

    @property
    def heads_per_group(self) -> int:
        """Query heads that read one KV head, m."""
        return self.query_heads // self.kv_groups

    @cached_property
    def routed(self) -> tuple[int, ...]:
        """Heads that are not shared, ascending."""
        shared = set(self.shared)
        return tuple(head for head in range(self.query_heads) if head not in shared)

    @cached_property
    def routed_groups(self) -> tuple[int, ...]:
        """KV groups that hold routed heads, ascending."""
        return tuple(sorted({head // self.heads_per_group for head in self.routed}))

    @cached_property
    def units(self) -> int:
        """Routed units among which one choice is made: E of the paper, a group's part of it, or groups."""
        if self.choice == "groups":
            return len(self.routed_groups)
        return len(self.routed) if self.choice == "free" else len(self.routed) // max(len(self.routed_groups), 1)

    @cached_property
    def choices(self) -> int:
        """Choices that a token makes in the layer: one, or one for each KV group with routed heads."""
        return len(self.routed_groups) if self.choice == "per_group" else min(len(self.routed), 1)

    @cached_property
    def sources(self) -> tuple[int, ...]:
        """Where each head stands among the shared heads and then the routed units: whose weight and choice are its."""
        places = {head: place for place, head in enumerate(self.shared)}
        if self.choice == "groups":
            place_of = {group: place for place, group in enumerate(self.routed_groups)}
            places |= {head: len(self.shared) + place_of[head // self.heads_per_group] for head in self.routed}
        else:
            places |= {head: len(self.shared) + place for place, head in enumerate(self.routed)}
        return tuple(places[head] for head in range(self.query_heads))

    @property
    def unit_name(self) -> str:
        """What a unit is, for people."""
        return {"free": "heads", "per_group": "heads of a KV group", "groups": "KV groups"}[self.choice]

    @property
    def active_routed_heads(self) -> int:
        """Routed heads that a token uses, K of the paper."""
        return self.active * self.heads_per_step

    @property
    def heads_per_step(self) -> int:
        """Heads that one more active unit adds."""
        return {"free": 1, "per_group": len(self.routed_groups), "groups": self.heads_per_group}[self.choice]

    @cached_property
    def active_heads(self) -> int:
        """Heads that a token uses, shared and routed."""
        return len(self.shared) + self.active_routed_heads

    @property
    def active_share(self) -> float:
        """Active heads over all heads of the layer, 0 to 1."""
        return self.active_heads / self.query_heads

    @cached_property
    def rows_per_group(self) -> int | None:
        """Heads that every token uses in every KV group, where that is one number; else None."""
        if self.choice == "groups":
            return self.heads_per_group if self.active == self.units else None
        counts = [self.shared_in(group) for group in range(self.kv_groups)]
        if self.choice == "per_group":
            counts = [n if n == self.heads_per_group else n + self.active for n in counts]
        elif self.active == self.units:
            counts = [self.heads_per_group] * self.kv_groups
        elif self.active:
            return None
        return counts[0] if len(set(counts)) == 1 else None

    def shared_in(self, group: int) -> int:
        """Count the shared heads of a KV group."""
        return sum(head // self.heads_per_group == group for head in self.shared)

    def describe(self) -> str:
        """Say the layout in one line: which heads are always on, what is chosen, how many heads that makes."""
        parts = [f"{len(self.shared)} shared"] if self.shared else []
        if self.routed:
            where = f" in each of {self.choices} KV groups" if self.choice == "per_group" else ""
            unit = "KV groups" if self.choice == "groups" else "heads"
            parts.append(f"{self.active} of {self.units} routed {unit}{where}")
        total = f"{self.active_heads} of {self.query_heads} heads active, {100 * self.active_share:.1f} %"
        return f"{' + '.join(parts)} ({total})"


@dataclass(frozen=True, kw_only=True)
class ActiveShare:
    """How much of a model's attention runs for a token; a share without its kind of mean says little.

    Attributes:
        over_heads: Active heads over all heads of all layers: the mean over heads, which the paper's budgets use.
        over_layers: Mean over layers of each layer's active share.
        shared_among_active: Always-on heads over active heads.
        routing_layers: Layers in which tokens choose.
        layers: All layers.
    """

    over_heads: float
    over_layers: float
    shared_among_active: float
    routing_layers: int
    layers: int

    def describe(self) -> str:
        """Say the shares in one line, each with what it is a mean over."""
        return (
            f"{100 * self.over_heads:.1f} % of all heads active ({100 * self.over_layers:.1f} % as the mean over "
            f"layers), {100 * self.shared_among_active:.1f} % of the active ones shared; tokens choose in "
            f"{self.routing_layers} of {self.layers} layers"
        )


def active_share(layouts: Sequence[HeadLayout]) -> ActiveShare:
    """Report the active share of a model.

    ViT-S-75 (3+0/3 and 6+0/6 heads in 5 layers each, 3+6/12 in 22, 4+12/24 in 5): 323 of 429 heads, 75.29 %, but
    80.63 % as the mean over layers.

    Args:
        layouts: One for each layer, at least one.
    """
    if not layouts:
        raise UserError("a model without layers has no active share", fix="give the layout of every layer")
    active = sum(layout.active_heads for layout in layouts)
    # Heads that are on because every unit is taken are not shared: they have a gate of their own.
    shared = sum(len(layout.shared) for layout in layouts)
    return ActiveShare(
        over_heads=active / sum(layout.query_heads for layout in layouts),
        over_layers=sum(layout.active_share for layout in layouts) / len(layouts),
        shared_among_active=shared / active if active else 0.0,
        routing_layers=sum(0 < layout.active < layout.units for layout in layouts),
        layers=len(layouts),
    )


def read_share(text: str) -> float:
    """Read an active share as people write it: ``0.75``, ``75 %`` or ``7/9``.

    Raises:
        UserError: It is no number above 0 and up to 1.
    """
    plain = text.strip()
    try:
        share = float(Fraction(plain.removesuffix("%").strip())) / (100 if plain.endswith("%") else 1)
    except (ValueError, ZeroDivisionError):
        share = 0.0
    if not 0.0 < share <= 1.0:
        raise UserError(
            "an active share is a part of all heads", value=text, fix="write it as 0.75, 75% or 3/4; at most 1"
        )
    return share


def layout_for(
    query_heads: int,
    kv_groups: int,
    *,
    active_share: float,
    shared: tuple[int, ...] = (),
    choice: Choice = "per_group",
) -> HeadLayout:
    """Build the layout that keeps a share of a layer's heads active.

    Args:
        query_heads: Query heads, H.
        kv_groups: KV heads, G.
        active_share: Active heads, shared ones included, over all heads; above 0, at most 1. Two decimals are enough:
            0.67 means 2 of 3.
        shared: Heads that are always on.
        choice: Among what a token chooses.

    Raises:
        UserError: No number of active units gives that share; the nearest shares that exist are named.
    """
    if not 0.0 < active_share <= 1.0:
        raise UserError("an active share is above 0 and at most 1", value=active_share)
    none = HeadLayout(query_heads=query_heads, kv_groups=kv_groups, shared=shared, active=0, choice=choice)
    possible = [replace(none, active=active) for active in range(none.units + 1)]
    # Static pruning is asked for by name, not by a share that happens to be the shared heads'.
    possible = [layout for layout in possible if layout.active or not layout.routed]
    found = min(possible, key=lambda layout: abs(layout.active_share - active_share))
    # Two decimals name a share wherever shares lie further apart than that.
    step = min(ROUNDING, none.heads_per_step / query_heads / 4)
    if abs(found.active_share - active_share) <= step:
        return found
    nearest = sorted(possible, key=lambda layout: abs(layout.active_share - active_share))[:2]
    raise UserError(
        f"no number of active {none.unit_name} makes that share of {query_heads} heads in {kv_groups} KV groups, "
        f"{len(shared)} of them shared",
        value=active_share,
        fix="take a share that divides, share other heads, or choose free heads instead of heads of each KV group",
        alternatives=[
            f"{layout.active_share:.3f} ({layout.active_heads} of {query_heads})"
            for layout in sorted(nearest, key=lambda layout: layout.active_heads)
        ],
    )
