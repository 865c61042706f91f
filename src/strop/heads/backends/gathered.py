"""Pure torch: attention of the packed rows by torch's own kernels; always there.

A block of rows, sorted by position, sees most of its keys without any mask: those from the last first key to the first
last key of its rows. One call attends to these, a second one, masked, to the few keys at the edges, and the two are
merged by their log-sum-exp. Where every token has the same number of heads in every group, one call does it all.

On a CPU the calls are those of torch's flash kernel, forward and backward, and the gradients of keys and values are
added up in place. Elsewhere, and for short rows, the same blocks are computed by matrix products that autograd follows;
their bounds cost one wait for the device.

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
SHORTEST_BLOCK = 32
FEW_KEYS = 64
"""Up to so many keys the blocks are computed by matrix products and `_Shares`. Where one share is nearly 1, a gradient
of scores is a small difference of two numbers; the flash kernel takes one of them from the rounded output, and noise
is left."""


def missing(query: Tensor, plan: RoutingPlan) -> str | None:
    """Say why this call cannot run here; it always can."""
    return None


def attend(query_rd: Tensor, key_bgtd: Tensor, value_bgtd: Tensor, *, plan: RoutingPlan, scale: float) -> Tensor:
    """Attend from every row to the keys that it sees; (r, d), zero for rows that see nothing."""
    # Whether a gradient is wanted has no say: a checkpointed layer runs without first, and again with.
    few = plan.visible.keys <= FEW_KEYS
    if plan.uniform is not None and _one_call(plan) and not few:
        return _attend_evenly(query_rd, key_bgtd, value_bgtd, plan=plan, scale=scale)
    flash = query_rd.device.type == "cpu" and not few
    compute: Callable[..., Tensor] = _Blockwise.apply if flash else _attend_portably
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
    """Rows ``start`` to ``stop`` of one segment and the keys that they see, each from and up to.

    Every row sees ``low`` to ``high``, the rectangle. Some see keys of the edges, ``first`` to ``low`` below it and
    ``high`` to ``end`` above. Without a rectangle all keys are in one edge.
    """

    segment: int
    start: int
    stop: int
    first: int
    low: int
    high: int
    end: int


@dataclass(frozen=True)
class Rows:
    """Rows that all see something: where each segment begins, their ends, and how many rows a query has."""

    first_r: Tensor
    last_r: Tensor
    offset: list[int]
    queries: int
    bounded_below: bool

    def blocks(self, rows: float) -> list[Block]:
        """Cut the segments into blocks of even length; `rows` is the length at one row a query."""
        cuts: list[tuple[int, int, int]] = []
        for segment, (start, stop) in enumerate(zip(self.offset, self.offset[1:], strict=False)):
            count = stop - start
            if count:
                length = max(SHORTEST_BLOCK, int(rows * sqrt(count / self.queries)))
                parts = -(-count // length)
                cuts += [(segment, start + count * i // parts, start + count * (i + 1) // parts) for i in range(parts)]
        ends = torch.tensor([row for _, start, stop in cuts for row in (start, stop - 1)], dtype=torch.int64)
        ends = ends.to(self.last_r.device)
        lasts = self.last_r.index_select(0, ends).tolist()
        firsts = self.first_r.index_select(0, ends).tolist() if self.bounded_below else [0] * len(lasts)
        return [
            _block(cut, firsts[2 * i], firsts[2 * i + 1], lasts[2 * i] + 1, lasts[2 * i + 1] + 1)
            for i, cut in enumerate(cuts)
        ]


def _block(cut: tuple[int, int, int], first: int, low: int, high: int, end: int) -> Block:
    """Drop a rectangle that is not worth a call beside the edges; its keys join the edge that knows both masks."""
    if high - low < SMALLEST_RECTANGLE and (first < low or high < end):
        low = high = first if first == low else end
    return Block(*cut, first, low, high, end)


def _rows_of(plan: RoutingPlan, seen_r: Tensor | None = None) -> Rows:
    """Describe the rows of a plan, or those of it that see something."""
    first_r, last_r, offset_s = plan.first_r, plan.last_r, plan.offset_s
    if seen_r is not None:
        offset_s = torch.searchsorted(seen_r, offset_s)
        first_r, last_r = first_r[seen_r], last_r[seen_r]
    bounded = not (plan.visible.causal or plan.visible.everything)
    return Rows(first_r, last_r, offset_s.tolist(), plan.queries, bounded)


class _Masks:
    """Masks of the edges, as what is added to the scores; each is one gather from a table whose rows overlap."""

    def __init__(self, rows: Rows, blocks: list[Block], like: Tensor) -> None:
        self.blocks = blocks
        self.widest = max((max(block.low - block.first, block.end - block.high) for block in blocks), default=0)
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        self.line = torch.zeros(3 * self.widest, dtype=dtype, device=like.device)
        self.line[: self.widest] = HIDDEN
        self.line[2 * self.widest :] = HIDDEN
        self.sizes = [block.stop - block.start for block in blocks]
        self.below: tuple[Tensor, ...] = ()
        if rows.bounded_below:
            self.below = torch.split(self._each([block.low for block in blocks]) - rows.first_r, self.sizes)
        self.above = torch.split(self._each([block.end - 1 for block in blocks]) - rows.last_r, self.sizes)

    def _each(self, of_blocks: list[int]) -> Tensor:
        """Repeat a number of each block for its rows."""
        of_b = torch.tensor(of_blocks, dtype=torch.int64, device=self.line.device)
        size_b = torch.tensor(self.sizes, dtype=torch.int64, device=self.line.device)
        return of_b.repeat_interleave(size_b, output_size=sum(self.sizes))

    def _hide_below(self, number: int, width: int) -> Tensor:
        """Hide keys before each row's first, of `width` keys below the rectangle."""
        table = self.line.as_strided((width + 1, width), (1, 1), self.widest - width)
        return table.index_select(0, self.below[number])

    def _hide_above(self, number: int, width: int) -> Tensor:
        """Hide keys after each row's last, of the last `width` keys that the block sees."""
        table = self.line.as_strided((width + 1, width), (1, 1), 2 * self.widest - width)
        return table.index_select(0, self.above[number])

    def of(self, number: int) -> Tensor:
        """Return the mask of a block's edge keys; (1, 1, rows, keys)."""
        _, _, _, first, low, high, end = self.blocks[number]
        if first == low:
            return self._hide_above(number, end - high)[None, None]
        if high < end:
            parts = self._hide_below(number, low - first), self._hide_above(number, end - high)
            return torch.cat(parts, dim=1)[None, None]
        if low == high:
            return (self._hide_below(number, end - first) + self._hide_above(number, end - first))[None, None]
        return self._hide_below(number, low - first)[None, None]


def _edges(x_11td: Tensor, block: Block) -> Tensor:
    """Return the keys of a block's edges; a view where one is empty."""
    _, _, _, first, low, high, end = block
    if first == low:
        return x_11td.narrow(2, high, end - high)
    if high == end:
        return x_11td.narrow(2, first, low - first)
    return torch.cat([x_11td.narrow(2, first, low - first), x_11td.narrow(2, high, end - high)], dim=2)


def _add_edges(total_11td: Tensor, block: Block, x_11td: Tensor) -> None:
    """Add to the keys of a block's edges."""
    _, _, _, first, low, high, end = block
    below, above = low - first, end - high
    if below:
        total_11td.narrow(2, first, below).add_(x_11td.narrow(2, 0, below))
    if above:
        total_11td.narrow(2, high, above).add_(x_11td.narrow(2, below, above))


class _Blockwise(torch.autograd.Function):
    """Attention by blocks through the flash kernel for CPUs; keys' gradients are added up in place, in float32."""

    @staticmethod
    def forward(ctx: Any, query_rd: Tensor, key_bgtd: Tensor, value_bgtd: Tensor, rows: Rows, scale: float) -> Tensor:
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
        blocks = rows.blocks(FORWARD_ROWS)
        masks = _Masks(rows, blocks, query_rd)
        train = any(ctx.needs_input_grad)
        sizes = masks.sizes
        out_rd = torch.empty_like(query_rd, memory_format=torch.contiguous_format)
        lse_r = query_rd.new_empty(query_rd.shape[0], dtype=masks.line.dtype)
        views = (torch.split(x, sizes, dim=2) for x in (query_rd[None, None], out_rd[None, None], lse_r[None, None]))
        segment = -1
        for number, (block, query, out, lse) in enumerate(zip(blocks, *views, strict=True)):
            if block.segment != segment:
                segment = block.segment
                key, value = (_segment(x, segment) for x in (key_bgtd, value_bgtd))
            _, _, _, first, low, high, end = block
            if low < high:
                keys, values = key.narrow(2, low, high - low), value.narrow(2, low, high - low)
                inner, inner_lse = flash(query, keys, values, scale=scale)
            if first < low or high < end:
                mask = masks.of(number)
                outer, outer_lse = flash(query, _edges(key, block), _edges(value, block), attn_mask=mask, scale=scale)
                if low < high:
                    share = torch.sigmoid(outer_lse - inner_lse)[..., None]
                    torch.lerp(inner, outer, share if share.dtype == inner.dtype else share.to(inner.dtype), out=out)
                    if train:
                        torch.logaddexp(inner_lse, outer_lse, out=lse)
                    continue
                inner, inner_lse = outer, outer_lse
            out.copy_(inner)
            lse.copy_(inner_lse)
        ctx.save_for_backward(query_rd, key_bgtd, value_bgtd, out_rd, lse_r)
        ctx.rows, ctx.scale = rows, scale
        return out_rd

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_rd: Tensor) -> tuple[Tensor | None, ...]:
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default
        query_rd, key_bgtd, value_bgtd, out_rd, lse_r = ctx.saved_tensors
        blocks = ctx.rows.blocks(BACKWARD_ROWS)
        masks = _Masks(ctx.rows, blocks, query_rd)
        sizes = masks.sizes
        query_grad_rd = torch.empty_like(query_rd, memory_format=torch.contiguous_format)
        key_grad, value_grad = (torch.zeros_like(x, dtype=masks.line.dtype) for x in (key_bgtd, value_bgtd))
        tensors = (grad_rd.contiguous(), query_rd, out_rd, lse_r, query_grad_rd)
        views = (torch.split(x[None, None], sizes, dim=2) for x in tensors)
        segment = -1
        for number, (block, grad, query, out, lse, query_grad) in enumerate(zip(blocks, *views, strict=True)):
            if block.segment != segment:
                segment = block.segment
                key, value, dkey, dvalue = (_segment(x, segment) for x in (key_bgtd, value_bgtd, key_grad, value_grad))
            _, _, _, first, low, high, end = block
            rest = (out, lse, 0.0, False)
            if low < high:
                keys, values = key.narrow(2, low, high - low), value.narrow(2, low, high - low)
                found = flash(grad, query, keys, values, *rest, scale=ctx.scale)
                query_grad.copy_(found[0])
                dkey.narrow(2, low, high - low).add_(found[1])
                dvalue.narrow(2, low, high - low).add_(found[2])
            if first < low or high < end:
                keys, values = _edges(key, block), _edges(value, block)
                found = flash(grad, query, keys, values, *rest, attn_mask=masks.of(number), scale=ctx.scale)
                if low < high:
                    query_grad.add_(found[0])
                else:
                    query_grad.copy_(found[0])
                _add_edges(dkey, block, found[1])
                _add_edges(dvalue, block, found[2])
        return query_grad_rd, key_grad.to(key_bgtd.dtype), value_grad.to(value_bgtd.dtype), None, None


def _segment(x_bgtd: Tensor, segment: int) -> Tensor:
    """Return one batch row's keys of one KV head; (1, 1, t, d)."""
    b, g = divmod(segment, x_bgtd.shape[1])
    return x_bgtd[b : b + 1, g : g + 1]


class _Shares(torch.autograd.Function):
    """Softmax over keys, whose gradient stays exact where one share is nearly 1.

    There the gradient of a score, share * (slope - mean of slopes), is a small difference of two numbers. Taken from
    the slope of the largest share both are small, and that share's own difference is the mean alone.
    """

    @staticmethod
    def forward(ctx: Any, score_rt: Tensor) -> Tensor:
        share_rt = score_rt.softmax(-1)
        ctx.save_for_backward(share_rt)
        return share_rt

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope_rt: Tensor) -> Tensor:
        share_rt: Tensor = ctx.saved_tensors[0]
        slope_rt = slope_rt - slope_rt.gather(-1, share_rt.argmax(-1, keepdim=True))
        return share_rt * (slope_rt - (share_rt * slope_rt).sum(-1, keepdim=True))


def _attend_portably(query_rd: Tensor, key_bgtd: Tensor, value_bgtd: Tensor, rows: Rows, scale: float) -> Tensor:
    """Attend by blocks with matrix products; the same on every device."""
    parts = []
    for block in rows.blocks(PORTABLE_ROWS):
        b, g = divmod(block.segment, key_bgtd.shape[1])
        keys = slice(block.first, block.end)
        position_t = torch.arange(keys.start, keys.stop, device=query_rd.device)
        first_r, last_r = (x[block.start : block.stop, None] for x in (rows.first_r, rows.last_r))
        score_rt = query_rd[block.start : block.stop] @ key_bgtd[b, g, keys].T * scale
        hidden_rt = (position_t < first_r) | (position_t > last_r)
        exact = torch.promote_types(query_rd.dtype, torch.float32)
        score_rt = score_rt.to(exact).masked_fill(hidden_rt, float("-inf"))
        share_rt: Tensor = _Shares.apply(score_rt)  # type: ignore[no-untyped-call]
        parts.append(share_rt.to(query_rd.dtype) @ value_bgtd[b, g, keys])
    # Without rows there is nothing to compute, but gradients of zero to pass on.
    return torch.cat(parts) if parts else query_rd + 0 * (key_bgtd.sum() + value_bgtd.sum())
