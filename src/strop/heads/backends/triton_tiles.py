"""Which rows each GPU program takes: tables made on the tensors' own device, of sizes that the host knows beforehand.

Nothing here waits for the device, so a step whose number of rows is fixed can be captured in a CUDA graph.

Shapes: i row tiles, r rows of a plan, s segments (batch row x KV head), j key tiles of a segment.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from strop.heads.plan import RoutingPlan


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """The sizes of the tiles, all powers of two of at least 16, and how the compiler spreads and pipelines them.

    Attributes:
        rows: Rows of a tile whose program walks over the keys (forward, gradient of the queries).
        keys: Keys of one step of that walk in the forward pass.
        backward_keys: The same for the gradient of the queries.
        walked_rows: Rows of one step of the programs that own keys (gradients of keys and values).
        owned_keys: Keys that such a program owns.
        warps: Warps of a forward program.
        backward_warps: Warps of a backward program.
        stages: Steps of a forward walk that are in flight.
        backward_stages: The same for a backward walk.
    """

    rows: int
    keys: int
    backward_keys: int
    walked_rows: int
    owned_keys: int
    warps: int = 4
    backward_warps: int = 4
    stages: int = 2
    backward_stages: int = 2


def default_blocks(width: int, itemsize: int, rows_per_token: float) -> Blocks:
    """Return the sizes used unless others are given.

    A tile of rows spans ``rows / rows_per_token`` positions, and all of them walk to the last one's keys: where a token
    has less than one row in a KV head, smaller tiles waste less. Within that the sizes are the largest that `ptxas`
    fits into the registers of compute capability 8.0 and 9.0 without spilling more than a few bytes.

    Args:
        width: Of a head, 1 to 256.
        itemsize: Bytes of a number.
        rows_per_token: Rows over tokens of a segment, on average: heads of a group times the active share.
    """
    rows = 128 if rows_per_token >= 1 else 64
    if itemsize == 4 and width <= 64:
        return Blocks(rows=64, keys=32, backward_keys=32, walked_rows=32, owned_keys=32, warps=8, backward_warps=8)
    if itemsize == 4:
        return Blocks(rows=32, keys=16, backward_keys=16, walked_rows=16, owned_keys=16, warps=8, backward_warps=8)
    if width <= 64:
        return Blocks(rows=rows, keys=64, backward_keys=32, walked_rows=64, owned_keys=64, stages=3)
    if width <= 128 and rows == 128:
        return Blocks(rows=128, keys=64, backward_keys=32, walked_rows=64, owned_keys=64, warps=8, backward_warps=8)
    if width <= 128:
        return Blocks(rows=64, keys=64, backward_keys=32, walked_rows=32, owned_keys=64, stages=3)
    return Blocks(rows=64, keys=32, backward_keys=16, walked_rows=32, owned_keys=32, warps=8, backward_warps=8)


def tile_bound(plan: RoutingPlan, size: int) -> int:
    """Return how many tiles of `size` rows are enough, whatever the segments' lengths."""
    return min(plan.rows, plan.rows // size + plan.batch * plan.groups)


def row_tiles(plan: RoutingPlan, size: int) -> Tensor:
    """Cut the segments into tiles of rows, those that see the farthest keys first.

    Returns:
        (3, i) int32: segment, first row and end of each tile; unused entries, at the end, have segment -1.
    """
    count_s = (plan.offset_s.diff() + (size - 1)) // size
    end_s = count_s.cumsum(0)
    tile_i = torch.arange(tile_bound(plan, size), device=plan.offset_s.device)
    segment_i = torch.searchsorted(end_s, tile_i, right=True)
    used_i = segment_i < count_s.shape[0]
    safe_i = segment_i.clamp(max=count_s.shape[0] - 1)
    first_i = plan.offset_s[safe_i] + (tile_i - end_s[safe_i] + count_s[safe_i]) * size
    end_i = torch.minimum(first_i + size, plan.offset_s[safe_i + 1])
    last = max(plan.rows - 1, 0)
    # Only the order depends on this: the two ends of a tile stand for all of its rows.
    reach_i = torch.maximum(plan.last_r[first_i.clamp(max=last)], plan.last_r[(end_i - 1).clamp(0, last)])
    order_i = torch.where(used_i, reach_i, -2).argsort(descending=True, stable=True)
    table = torch.stack([torch.where(used_i, segment_i, -1), first_i, end_i])
    return table[:, order_i].int()


def row_walks(plan: RoutingPlan, size: int) -> Tensor:
    """Find the rows that see each tile of `size` keys.

    Both ends of the intervals rise among the rows that see something, so these rows lie together, and in their middle
    lie those that see the whole tile (or nothing at all).

    Returns:
        (4, s, j) int32: first row, first and end of the middle, and end.
    """
    keys, device = plan.visible.keys, plan.offset_s.device
    segments = plan.batch * plan.groups
    segment_r = torch.repeat_interleave(
        torch.arange(segments, device=device), plan.offset_s.diff(), output_size=plan.rows
    )
    # One rising sequence over all segments; a row that sees nothing repeats what was before it.
    base_r, base_s1 = segment_r * (keys + 2), torch.arange(segments, device=device)[:, None] * (keys + 2)
    seen_r = plan.first_r <= plan.last_r
    first_r = (base_r + torch.where(seen_r, plan.first_r + 1, 0)).cummax(0).values
    last_r = (base_r + torch.where(seen_r, plan.last_r + 1, 0)).cummax(0).values
    low_j = torch.arange(0, keys, size, device=device)
    high_j = (low_j + size).clamp(max=keys)
    start_sj = torch.searchsorted(last_r, base_s1 + low_j + 1)
    end_sj = torch.searchsorted(first_r, base_s1 + high_j + 1)
    whole_sj = torch.searchsorted(last_r, base_s1 + high_j)
    whole_end_sj = torch.searchsorted(first_r, base_s1 + low_j + 2)
    end_sj = torch.maximum(start_sj, end_sj)
    whole_sj = torch.minimum(torch.maximum(whole_sj, start_sj), end_sj)
    whole_end_sj = torch.minimum(torch.maximum(whole_end_sj, whole_sj), end_sj)
    return torch.stack([start_sj, whole_sj, whole_end_sj, end_sj]).int()
