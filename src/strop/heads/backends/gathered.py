"""Pure torch: attention of the packed rows by torch's own kernels; always there.

A block of rows, sorted by position, sees most of its keys without any mask: those from the last first key to the first
last key of its rows. One call attends to these, a second one, masked, to the few keys at the edges, and the two are
merged by their log-sum-exp. Where every token has the same number of heads in every group, one call does it all.

On a CPU the calls are those of torch's flash kernel, forward and backward, and the gradients of keys and values are
added up in place. Elsewhere the same blocks are computed by matrix products that autograd follows; their bounds cost
one wait for the device.

Shapes: b batch rows, n queries, t keys, h query heads, g KV heads, d head width, r rows of the plan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention

from strop.heads.plan import RoutingPlan

HIDDEN = -1e30
"""Added to scores of keys that a row does not see; finite, so that an edge it does not see gets weight 0."""
SMALLEST_RECTANGLE = 48
"""Keys below which an unmasked call of its own costs more than masking them with the edge."""
FORWARD_ROWS, BACKWARD_ROWS = 180.0, 256.0
"""Rows of a block at one row a query. Longer blocks waste more on masked edges, shorter ones more on calls; the sum is
least at the square root of the density of rows."""
PORTABLE_ROWS = 512.0


def missing(query: Tensor, plan: RoutingPlan) -> str | None:
    """Say why this call cannot run here; it always can."""
    return None


def attend(query_rd: Tensor, key_bgtd: Tensor, value_bgtd: Tensor, *, plan: RoutingPlan, scale: float) -> Tensor:
    """Attend from every row to the keys that it sees; (r, d), zero for rows that see nothing."""
    if plan.uniform is not None and _one_call(plan):
        return _attend_evenly(query_rd, key_bgtd, value_bgtd, plan=plan, scale=scale)
    compute: Callable[..., Tensor] = _Blockwise.apply if query_rd.device.type == "cpu" else _attend_portably
    if plan.visible.causal or plan.visible.everything:
        return compute(query_rd, key_bgtd, value_bgtd, _rows_of(plan), scale)
    seen_r = (plan.first_r <= plan.last_r).nonzero().squeeze(1)
    out_sd = compute(query_rd.index_select(0, seen_r), key_bgtd, value_bgtd, _rows_of(plan, seen_r), scale)
    return out_sd.new_zeros(query_rd.shape).index_copy(0, seen_r, out_sd)


def _one_call(plan: RoutingPlan) -> bool:
    """Say whether torch's kernel knows these visible keys without a mask."""
    visible = plan.visible
    return visible.everything or (visible.causal and plan.queries in {1, visible.keys})


def _attend_evenly(
    query_rd: Tensor, key_bgtd: Tensor, value_bgtd: Tensor, *, plan: RoutingPlan, scale: float
) -> Tensor:
    """Attend where every token has k heads in every group: dense attention with g * k heads; exact."""
    b, n, k, d = plan.batch, plan.queries, plan.uniform or 0, query_rd.shape[1]
    g = plan.groups
    query_bhnd = query_rd.view(b, g, n, k, d).transpose(2, 3).reshape(b, g * k, n, d)
    causal = plan.visible.causal and n > 1
    out_bhnd = scaled_dot_product_attention(
        query_bhnd, key_bgtd, value_bgtd, is_causal=causal, scale=scale, enable_gqa=k > 1
    )
    return out_bhnd.view(b, g, k, n, d).transpose(2, 3).reshape(-1, d)


class Block(NamedTuple):
    """Rows ``start`` to ``stop`` of one segment, and the ends of what they see: lowest and highest first and last."""

    segment: int
    start: int
    stop: int
    first: int
    first_high: int
    last: int
    last_high: int

    @property
    def rectangle(self) -> tuple[int, int]:
        """Keys that every row sees, from and up to; none where they are not worth a call beside the edges."""
        low, high = self.first_high, self.last + 1
        whole = self.first == self.first_high and self.last == self.last_high
        return (low, high) if whole or high - low >= SMALLEST_RECTANGLE else (low, low)

    @property
    def edges(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Keys that only some rows see, below and above the rectangle; all of them below where there is none."""
        low, high = self.rectangle
        if low == high:
            return (self.first, self.last_high + 1), (self.last_high + 1, self.last_high + 1)
        return (self.first, low), (high, self.last_high + 1)


@dataclass(frozen=True)
class Rows:
    """Rows that all see something: where each segment begins, their ends, and how many rows a query has."""

    first_r: Tensor
    last_r: Tensor
    offset: list[int]
    queries: int
    keys: int
    bounded_below: bool

    def blocks(self, rows: float) -> list[Block]:
        """Cut the segments into blocks of even length; `rows` is the length at one row a query."""
        cuts: list[tuple[int, int, int]] = []
        for segment, (start, stop) in enumerate(zip(self.offset, self.offset[1:], strict=False)):
            count = stop - start
            if count:
                length = max(32.0, rows * sqrt(count / self.queries))
                parts = -(-count // int(length))
                cuts += [(segment, start + count * i // parts, start + count * (i + 1) // parts) for i in range(parts)]
        ends = torch.tensor([[start, stop - 1] for _, start, stop in cuts], dtype=torch.int64)
        ends = ends.reshape(-1).to(self.last_r.device)
        lasts = self.last_r[ends].tolist()
        firsts = self.first_r[ends].tolist() if self.bounded_below else [0] * len(lasts)
        return [
            Block(*cut, firsts[2 * i], firsts[2 * i + 1], lasts[2 * i], lasts[2 * i + 1]) for i, cut in enumerate(cuts)
        ]


def _rows_of(plan: RoutingPlan, seen_r: Tensor | None = None) -> Rows:
    """Describe the rows of a plan, or those of it that see something."""
    first_r, last_r, offset_s = plan.first_r, plan.last_r, plan.offset_s
    if seen_r is not None:
        offset_s = torch.searchsorted(seen_r, offset_s)
        first_r, last_r = first_r[seen_r], last_r[seen_r]
    bounded = not (plan.visible.causal or plan.visible.everything)
    return Rows(first_r, last_r, offset_s.tolist(), plan.queries, plan.visible.keys, bounded)


class _Bias:
    """Masks of edges, as what is added to the scores; each is one gather from an overlapping table."""

    def __init__(self, rows: Rows, blocks: list[Block], like: Tensor) -> None:
        self.rows = rows
        self.widest = max((high - low for block in blocks for low, high in block.edges), default=0)
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        self.line = torch.zeros(3 * self.widest, dtype=dtype, device=like.device)
        self.line[: self.widest] = HIDDEN
        self.line[2 * self.widest :] = HIDDEN

    def _below(self, block: Block, low: int, high: int) -> Tensor:
        """Hide keys before each row's first."""
        width = high - low
        table = self.line.as_strided((width + 1, width), (1, 1), self.widest - width)
        return table.index_select(0, width + low - self.rows.first_r[block.start : block.stop])

    def _above(self, block: Block, low: int, high: int) -> Tensor:
        """Hide keys after each row's last."""
        width = high - low
        table = self.line.as_strided((width + 1, width), (1, 1), 2 * self.widest - width)
        return table.index_select(0, (high - 1) - self.rows.last_r[block.start : block.stop])

    def of(self, block: Block) -> Tensor:
        """Return the bias of a block's edge keys; (rows, keys)."""
        (low, high), (low2, high2) = block.edges
        if low2 == high2:
            if not self.rows.bounded_below:
                return self._above(block, low, high)
            if block.rectangle[0] == block.rectangle[1]:
                return self._below(block, low, high) + self._above(block, low, high)
            return self._below(block, low, high)
        if low == high:
            return self._above(block, low2, high2)
        return torch.cat([self._below(block, low, high), self._above(block, low2, high2)], dim=1)


def _keys(x_11td: Tensor, spans: tuple[tuple[int, int], tuple[int, int]]) -> Tensor:
    """Return the keys of two spans; a view where one is empty."""
    parts = [x_11td.narrow(2, low, high - low) for low, high in spans if high > low]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _add_keys(total_11td: Tensor, spans: tuple[tuple[int, int], tuple[int, int]], x_11td: Tensor) -> None:
    """Add to the keys of two spans."""
    done = 0
    for low, high in spans:
        if high > low:
            total_11td.narrow(2, low, high - low).add_(x_11td.narrow(2, done, high - low))
            done += high - low


class _Blockwise(torch.autograd.Function):
    """Attention by blocks through the flash kernel for CPUs; keys' gradients are added up in place, in float32."""

    @staticmethod
    def forward(ctx: Any, query_rd: Tensor, key_bgtd: Tensor, value_bgtd: Tensor, rows: Rows, scale: float) -> Tensor:
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
        groups = key_bgtd.shape[1]
        blocks = rows.blocks(FORWARD_ROWS)
        bias = _Bias(rows, blocks, query_rd)
        train = any(ctx.needs_input_grad)
        sizes = [block.stop - block.start for block in blocks]
        out_rd = torch.empty_like(query_rd, memory_format=torch.contiguous_format)
        lse_r = query_rd.new_empty(query_rd.shape[0], dtype=bias.line.dtype)
        queries, outs, lses = (torch.split(x[None, None], sizes, dim=2) for x in (query_rd, out_rd, lse_r[:, None]))
        segment, key, value = -1, key_bgtd, value_bgtd
        for block, query, out, lse in zip(blocks, queries, outs, lses, strict=True):
            if block.segment != segment:
                segment = block.segment
                b, g = divmod(segment, groups)
                key, value = key_bgtd[b : b + 1, g : g + 1], value_bgtd[b : b + 1, g : g + 1]
            (low, high), edges = block.rectangle, block.edges
            if high > low:
                keys, values = key.narrow(2, low, high - low), value.narrow(2, low, high - low)
                inner, inner_lse = flash(query, keys, values, scale=scale)
                if edges[0][0] == edges[0][1] and edges[1][0] == edges[1][1]:
                    out.copy_(inner)
                    lse.copy_(inner_lse[..., None])
                    continue
            mask = bias.of(block)[None, None]
            outer, outer_lse = flash(query, _keys(key, edges), _keys(value, edges), attn_mask=mask, scale=scale)
            if high > low:
                share = torch.sigmoid(outer_lse - inner_lse)[..., None].to(outer.dtype)
                torch.lerp(inner, outer, share, out=out)
                if train:
                    lse.copy_(torch.logaddexp(inner_lse, outer_lse)[..., None])
            else:
                out.copy_(outer)
                lse.copy_(outer_lse[..., None])
        ctx.save_for_backward(query_rd, key_bgtd, value_bgtd, out_rd, lse_r)
        ctx.rows, ctx.scale = rows, scale
        return out_rd

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_rd: Tensor) -> tuple[Tensor | None, ...]:
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default
        query_rd, key_bgtd, value_bgtd, out_rd, lse_r = ctx.saved_tensors
        groups = key_bgtd.shape[1]
        blocks = ctx.rows.blocks(BACKWARD_ROWS)
        bias = _Bias(ctx.rows, blocks, query_rd)
        sizes = [block.stop - block.start for block in blocks]
        query_grad_rd = torch.empty_like(query_rd)
        key_grad, value_grad = (torch.zeros_like(x, dtype=bias.line.dtype) for x in (key_bgtd, value_bgtd))
        tensors = (grad_rd.contiguous(), query_rd, out_rd, query_grad_rd)
        views = [torch.split(x[None, None], sizes, dim=2) for x in tensors]
        lses = torch.split(lse_r[None, None], sizes, dim=2)
        for block, grad, query, out, query_grad, lse in zip(blocks, *views, lses, strict=True):
            b, g = divmod(block.segment, groups)
            key, value, dkey, dvalue = (x[b : b + 1, g : g + 1] for x in (key_bgtd, value_bgtd, key_grad, value_grad))
            low, high = block.rectangle
            parts: list[tuple[tuple[tuple[int, int], tuple[int, int]], Tensor | None]] = []
            if high > low:
                parts.append((((low, high), (high, high)), None))
            if any(end > start for start, end in block.edges):
                parts.append((block.edges, bias.of(block)[None, None]))
            for number, (spans, mask) in enumerate(parts):
                keys, values = _keys(key, spans), _keys(value, spans)
                found = flash(grad, query, keys, values, out, lse, 0.0, False, attn_mask=mask, scale=ctx.scale)
                query_grad.add_(found[0]) if number else query_grad.copy_(found[0])
                _add_keys(dkey, spans, found[1])
                _add_keys(dvalue, spans, found[2])
        return query_grad_rd, key_grad.to(key_bgtd.dtype), value_grad.to(value_bgtd.dtype), None, None


def _attend_portably(query_rd: Tensor, key_bgtd: Tensor, value_bgtd: Tensor, rows: Rows, scale: float) -> Tensor:
    """Attend by blocks with matrix products; the same on every device."""
    groups = key_bgtd.shape[1]
    parts = []
    for block in rows.blocks(PORTABLE_ROWS):
        b, g = divmod(block.segment, groups)
        keys = slice(block.first, block.last_high + 1)
        position_t = torch.arange(keys.start, keys.stop, device=query_rd.device)
        first_r, last_r = (x[block.start : block.stop, None] for x in (rows.first_r, rows.last_r))
        score_rt = query_rd[block.start : block.stop] @ key_bgtd[b, g, keys].T * scale
        hidden_rt = (position_t < first_r) | (position_t > last_r)
        share_rt = score_rt.float().masked_fill(hidden_rt, float("-inf")).softmax(-1).to(query_rd.dtype)
        parts.append(share_rt @ value_bgtd[b, g, keys])
    return torch.cat(parts) if parts else torch.zeros_like(query_rd)
