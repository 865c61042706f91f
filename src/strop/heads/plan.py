"""The routing plan: the chosen (token, head) pairs as rows packed per KV head, in order of position, without padding.

Built once for a layer and used by projections, rotary embedding, attention and all gradients. Packing per KV head, not
per query head, lets one tile of rows span fewer positions when queries are grouped.

Shapes: b batch rows, n queries, t keys, h query heads, g KV heads, m = h / g, r rows (chosen pairs).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from strop.errors import UserError
from strop.heads.visibility import Visible

CACHED_PAIRS = 2**20
"""Pairs of a layer up to which the numbering of all of them is kept: the next layer packs by looking places up."""


@dataclass(frozen=True)
class RoutingPlan:
    """The rows of one layer. Rows ``offset[s]`` to ``offset[s + 1]`` belong to segment ``s = batch row * G + KV head``.

    Attributes:
        token_r: Index into the flattened tokens, ``batch row * n + query``; int64.
        head_r: Query head, 0 to H - 1; int64.
        offset_s: Where each segment begins, and the end; B * G + 1 entries, int64.
        visible: The keys that each query sees.
        batch: b.
        queries: n.
        heads: H.
        groups: G.
        uniform: Rows of every token in every segment where that is one number known beforehand; else None. Then the
            rows are a (b, g, n, uniform) array.
    """

    token_r: Tensor
    head_r: Tensor
    offset_s: Tensor
    visible: Visible
    batch: int
    queries: int
    heads: int
    groups: int
    uniform: int | None = None

    @property
    def rows(self) -> int:
        """Chosen (token, head) pairs, r."""
        return int(self.token_r.shape[0])

    @cached_property
    def first_r(self) -> Tensor:
        """First visible key of each row, int32."""
        return self.visible.first_bn.reshape(-1).index_select(0, self.token_r)

    @cached_property
    def last_r(self) -> Tensor:
        """Last visible key of each row, int32; -1 for rows that see nothing."""
        return self.visible.last_bn.reshape(-1).index_select(0, self.token_r)

    @cached_property
    def place_r(self) -> Tensor:
        """Index of each row into flattened (b, h, n)."""
        if self.batch == 1:
            return self.head_r * self.queries + self.token_r
        batch_r = self.token_r.div(self.queries, rounding_mode="floor")
        return (batch_r * (self.heads - 1) + self.head_r) * self.queries + self.token_r

    @cached_property
    def by_head(self) -> tuple[Tensor, list[int]]:
        """The rows in order of head, batch row and query, and how many each head has; the list waits for a GPU."""
        tokens = self.batch * self.queries
        row_ht = self.head_r.new_full((self.heads * tokens,), -1)
        row_ht[self.head_r * tokens + self.token_r] = torch.arange(self.rows, device=row_ht.device)
        count_h = (row_ht.view(self.heads, tokens) >= 0).sum(1)
        return row_ht[row_ht >= 0], count_h.tolist()

    def pack(self, dense_bhnd: Tensor) -> Tensor:
        """Gather the chosen rows of a (b, h, n, d) tensor; (r, d)."""
        return dense_bhnd.reshape(-1, dense_bhnd.shape[-1]).index_select(0, self.place_r)

    def unpack(self, rows_rd: Tensor) -> Tensor:
        """Scatter rows to (b, h, n, d), zero where a head was not chosen."""
        dense = rows_rd.new_zeros(self.batch * self.heads * self.queries, rows_rd.shape[-1])
        return dense.index_copy_(0, self.place_r, rows_rd).view(self.batch, self.heads, self.queries, rows_rd.shape[-1])

    def pack_gate(self, gate_bnh: Tensor) -> Tensor:
        """Gather the gates of the rows from (b, n, h); (r,)."""
        return gate_bnh.reshape(-1).index_select(0, self.token_r * self.heads + self.head_r)


def routing_plan(
    head_mask_bnh: Tensor,
    *,
    groups: int,
    visible: Visible,
    rows_per_group: int | None = None,
    heads_per_token: int | None = None,
) -> RoutingPlan:
    """Pack the chosen pairs of a layer.

    Args:
        head_mask_bnh: (b, n, h) True where a token uses a head.
        groups: KV heads, G.
        visible: The keys that each query sees.
        rows_per_group: How many heads every token uses in every group, where the layout fixes it
            (`HeadLayout.rows_per_group`): the plan is then known to be uniform.
        heads_per_token: How many heads every token uses, where the layout fixes it (`HeadLayout.active_heads`): packing
            then does not wait for a GPU. Follows from `rows_per_group`.

    Returns:
        The plan; its rows lie by batch row, KV head, query and head.

    Raises:
        UserError: The mask has another number of pairs than was promised (looked at on a CPU only).
    """
    b, n, h = head_mask_bnh.shape
    members = h // groups
    if rows_per_group is not None:
        heads_per_token = rows_per_group * groups
    chosen = head_mask_bnh.view(b, n, groups, members).permute(0, 2, 1, 3).reshape(-1)
    device = chosen.device
    if heads_per_token is not None and device.type != "cpu":
        pair_r = torch.nonzero_static(chosen, size=b * n * heads_per_token).squeeze(1)
    else:
        pair_r = chosen.nonzero().squeeze(1)
        if heads_per_token is not None and pair_r.shape[0] != b * n * heads_per_token:
            raise UserError(
                "the chosen heads are not as many as the layout says",
                value=f"{pair_r.shape[0]} pairs for {b * n} tokens of {heads_per_token} heads",
            )
    token_r, head_r = _pairs(pair_r, b, n, groups, members)
    if rows_per_group is None:
        offset_s = torch.searchsorted(pair_r, torch.arange(b * groups + 1, device=device) * (n * members))
    else:
        offset_s = torch.arange(b * groups + 1, device=device) * (n * rows_per_group)
    return RoutingPlan(token_r, head_r, offset_s, visible, b, n, h, groups, rows_per_group)


def _pairs(pair_r: Tensor, batch: int, queries: int, groups: int, members: int) -> tuple[Tensor, Tensor]:
    """Return token and head of pairs that are numbered by batch row, KV head, query and head of the group."""
    if batch * queries * groups * members > CACHED_PAIRS:
        return _numbered(pair_r, queries, groups, members)
    token_p, head_p = _all_pairs(batch, queries, groups, members, pair_r.device)
    return token_p.index_select(0, pair_r), head_p.index_select(0, pair_r)


@lru_cache(maxsize=8)
def _all_pairs(batch: int, queries: int, groups: int, members: int, device: torch.device) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):  # or else no later pass could be trained with them
        pair_p = torch.arange(batch * queries * groups * members, device=device)
        return _numbered(pair_p, queries, groups, members)


def _numbered(pair_r: Tensor, queries: int, groups: int, members: int) -> tuple[Tensor, Tensor]:
    place_r = pair_r.div(members, rounding_mode="floor")
    segment_r = place_r.div(queries, rounding_mode="floor")
    batch_r = segment_r.div(groups, rounding_mode="floor")
    token_r = place_r + (batch_r - segment_r) * queries
    head_r = (segment_r - batch_r * groups) * members + pair_r - place_r * members
    return token_r, head_r
