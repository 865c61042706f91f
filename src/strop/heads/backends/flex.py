"""torch's FlexAttention over the packed rows: the fallback on GPUs for which there are no Triton kernels of ours.

Each segment's rows are filled up to the longest one; what a tile of 128 rows sees is known from its rows' ends, so no
mask of all pairs is ever made. It is compiled on first use, and again for another number of rows on a CPU. There it has
no gradient.

Shapes: b batch rows, g KV heads, t keys, d head width, r rows of the plan, s = b g segments, l rows of the longest
segment filled up to whole tiles, q tiles of rows, k tiles of keys.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from strop.heads.plan import RoutingPlan

TILE = 128
CAPACITY_STEP = 4
"""Tiles that the longest segment is filled up to a multiple of: fewer shapes to compile for."""


def missing(query: Tensor, plan: RoutingPlan) -> str | None:
    """Say why this call cannot run here, or None where it can."""
    kind = query.device.type
    if kind not in {"cpu", "cuda"}:
        return f"FlexAttention runs on CPUs and NVIDIA GPUs, and the tensors are on {kind}"
    if kind == "cpu" and torch.is_grad_enabled() and query.requires_grad:
        return "torch's FlexAttention has no gradient on a CPU"
    width = query.shape[-1]
    if kind == "cuda" and (width < 16 or width & (width - 1)):
        return f"FlexAttention on a GPU wants a head width of 16, 32, 64, ...; it is {width}"
    return None


def attend(query_rd: Tensor, key_bgtd: Tensor, value_bgtd: Tensor, *, plan: RoutingPlan, scale: float) -> Tensor:
    """Attend from every row to the keys that it sees; (r, d), zero for rows that see nothing."""
    segments, d = plan.batch * plan.groups, query_rd.shape[1]
    if not plan.rows:
        return query_rd
    place_r, length = _places(plan)
    first_sl, last_sl = (
        ends_r.new_full((segments * length,), empty).index_copy_(0, place_r, ends_r).view(segments, length)
        for ends_r, empty in ((plan.first_r, 0), (plan.last_r, -1))
    )
    query_s1ld = query_rd.new_zeros(segments * length, d).index_copy(0, place_r, query_rd).view(segments, 1, length, d)
    keys, values = (x.reshape(segments, 1, -1, d) for x in (key_bgtd, value_bgtd))
    mask = block_mask(first_sl, last_sl, keys.shape[2])
    out_s1ld: Tensor = _compiled()(query_s1ld, keys, values, block_mask=mask, scale=scale)
    out_rd = out_s1ld.reshape(segments * length, d).index_select(0, place_r)
    return out_rd.masked_fill((plan.first_r > plan.last_r)[:, None], 0.0)


def _places(plan: RoutingPlan) -> tuple[Tensor, int]:
    """Return where each row lies in (s, l), and l; waits for a GPU unless the plan is uniform."""
    count_s = plan.offset_s.diff()
    longest = int(count_s.max()) if plan.uniform is None else plan.uniform * plan.queries
    step = TILE * CAPACITY_STEP
    length = -(-longest // step) * step
    segment_r = torch.arange(count_s.shape[0], device=count_s.device).repeat_interleave(count_s, output_size=plan.rows)
    shift_r = (segment_r * length) - plan.offset_s.index_select(0, segment_r)
    return torch.arange(plan.rows, device=count_s.device) + shift_r, length


def block_mask(first_sl: Tensor, last_sl: Tensor, keys: int) -> BlockMask:
    """Say which tiles of keys each tile of rows sees: wholly, in part, or not.

    Args:
        first_sl: First key that each row sees.
        last_sl: Last key that each row sees, less than the first for rows that are filled in.
        keys: Number of keys.
    """
    segments, length = first_sl.shape
    tiles = first_sl.view(segments, -1, TILE, 1), last_sl.view(segments, -1, TILE, 1)
    low_k = torch.arange(0, keys, TILE, device=first_sl.device, dtype=first_sl.dtype)
    high_k = (low_k + TILE - 1).clamp(max=keys - 1)
    empty_sq1 = (tiles[0] > tiles[1]).all(2)
    seeing = tiles[0] <= tiles[1]
    least_first = tiles[0].masked_fill(~seeing, keys).amin(2)
    most_last = tiles[1].masked_fill(~seeing, -1).amax(2)
    some_sqk = ~empty_sq1 & (high_k >= least_first) & (low_k <= most_last)
    whole_sqk = (low_k >= tiles[0].amax(2)) & (high_k <= tiles[1].amin(2)) & (low_k + TILE <= keys)

    def seen(s: Tensor, _head: Tensor, row: Tensor, key: Tensor) -> Tensor:
        return (key >= first_sl[s, row]) & (key <= last_sl[s, row])

    counts_and_tiles = [_listed(sqk) for sqk in (some_sqk & ~whole_sqk, whole_sqk)]
    (count, index), (whole_count, whole_index) = counts_and_tiles
    return BlockMask.from_kv_blocks(
        count, index, whole_count, whole_index, BLOCK_SIZE=TILE, mask_mod=seen, seq_lengths=(length, keys)
    )


def _listed(sqk: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many tiles of keys are marked for each tile of rows, and all tiles, the marked ones first."""
    count_s1q = sqk.sum(2, dtype=torch.int32)[:, None]
    index_s1qk = sqk.int().argsort(dim=2, descending=True, stable=True).int()[:, None]
    return count_s1q, index_s1qk


@cache
def _compiled() -> Callable[..., Any]:
    return torch.compile(flex_attention, dynamic=False)
