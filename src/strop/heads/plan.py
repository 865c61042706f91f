"""The routing plan: the chosen (token, head) pairs as rows packed per KV head, in order of position, without padding.

Built once for a layer and used by projections, rotary embedding, attention and all gradients. Packing per KV head, not
per query head, lets one tile of rows span fewer positions when queries are grouped.

Shapes: b batch rows, n queries, t keys, h query heads, g KV heads, m = h / g, r rows (chosen pairs).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from strop.heads.visibility import Visible


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
        return self.visible.first_bn.reshape(-1)[self.token_r]

    @cached_property
    def last_r(self) -> Tensor:
        """Last visible key of each row, int32; -1 for rows that see nothing."""
        return self.visible.last_bn.reshape(-1)[self.token_r]

    def pack(self, dense_bhnd: Tensor) -> Tensor:
        """Gather the chosen rows of a (b, h, n, d) tensor; (r, d)."""
        b, h, n, d = dense_bhnd.shape
        batch_r = self.token_r // n
        flat_r = (batch_r * h + self.head_r) * n + (self.token_r - batch_r * n)
        return dense_bhnd.reshape(b * h * n, d).index_select(0, flat_r)

    def unpack(self, rows_rd: Tensor) -> Tensor:
        """Scatter rows to (b, h, n, d), zero where a head was not chosen."""
        flat_r = (self.token_r // self.queries * self.heads + self.head_r) * self.queries + self.token_r % self.queries
        dense = rows_rd.new_zeros(self.batch * self.heads * self.queries, rows_rd.shape[-1])
        return dense.index_copy(0, flat_r, rows_rd).view(self.batch, self.heads, self.queries, -1)

    def pack_gate(self, gate_bnh: Tensor) -> Tensor:
        """Gather the gates of the rows from (b, n, h); (r,)."""
        return gate_bnh.reshape(-1).index_select(0, self.token_r * self.heads + self.head_r)


def routing_plan(
    head_mask_bnh: Tensor, *, groups: int, visible: Visible, rows_per_group: int | None = None
) -> RoutingPlan:
    """Pack the chosen pairs of a layer.

    Args:
        head_mask_bnh: (b, n, h) True where a token uses a head.
        groups: KV heads, G.
        visible: The keys that each query sees.
        rows_per_group: How many heads every token uses in every group, where the layout fixes it
            (`HeadLayout.rows_per_group`): the plan is then known to be uniform.

    Returns:
        The plan; its rows lie by batch row, KV head, query and head.
    """
    b, n, h = head_mask_bnh.shape
    by_segment_bgnm = head_mask_bnh.view(b, n, groups, h // groups).permute(0, 2, 1, 3)
    batch_r, group_r, query_r, member_r = by_segment_bgnm.nonzero(as_tuple=True)
    counts_s = by_segment_bgnm.sum(dim=(2, 3)).reshape(-1)
    return RoutingPlan(
        token_r=batch_r * n + query_r,
        head_r=group_r * (h // groups) + member_r,
        offset_s=torch.cat([counts_s.new_zeros(1), counts_s.cumsum(0)]),
        visible=visible,
        batch=b,
        queries=n,
        heads=h,
        groups=groups,
        uniform=rows_per_group,
    )
