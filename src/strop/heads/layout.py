"""Which query heads of a layer always run, which compete for each token, and how many of those a token takes.

Query head ``i`` reads the keys of KV group ``i // (query_heads // kv_groups)``, as in transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from strop.errors import UserError

Choice = Literal["free", "per_group", "groups"]
"""Among what a token chooses: all routed heads of the layer (the paper), the routed heads inside each KV group (ours,
the packed path's friend), or whole KV groups (ours, what lets decoding read fewer keys)."""


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

    @property
    def routed(self) -> tuple[int, ...]:
        """Heads that are not shared, ascending."""
        shared = set(self.shared)
        return tuple(head for head in range(self.query_heads) if head not in shared)

    @property
    def routed_groups(self) -> tuple[int, ...]:
        """KV groups that hold routed heads, ascending."""
        return tuple(sorted({head // self.heads_per_group for head in self.routed}))

    @property
    def units(self) -> int:
        """Routed units among which one choice is made: E of the paper, a group's part of it, or groups."""
        if self.choice == "groups":
            return len(self.routed_groups)
        return len(self.routed) if self.choice == "free" else len(self.routed) // max(len(self.routed_groups), 1)

    @property
    def choices(self) -> int:
        """Choices that a token makes in the layer: one, or one for each KV group with routed heads."""
        return len(self.routed_groups) if self.choice == "per_group" else min(len(self.routed), 1)

    @property
    def unit_name(self) -> str:
        """What a unit is, for people."""
        return {"free": "heads", "per_group": "heads of a KV group", "groups": "KV groups"}[self.choice]

    @property
    def active_routed_heads(self) -> int:
        """Routed heads that a token uses, K of the paper."""
        factor = {"free": 1, "per_group": len(self.routed_groups), "groups": self.heads_per_group}[self.choice]
        return self.active * factor

    @property
    def active_heads(self) -> int:
        """Heads that a token uses, shared and routed."""
        return len(self.shared) + self.active_routed_heads

    @property
    def active_share(self) -> float:
        """Active heads over all heads of the layer, 0 to 1."""
        return self.active_heads / self.query_heads

    @property
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
