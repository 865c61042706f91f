"""GPU kernels in Triton: forward, backward and decoding from packed rows, the same bits in every run.

Without a GPU they run only in Triton's interpreter (``TRITON_INTERPRET=1`` set before Triton is imported): exact, and
slow. float32 is multiplied in full precision, never in TF32; float16 and bfloat16 are summed in float32.

Shapes: b batch rows, g KV heads, t keys, d head width, r rows of the plan.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from strop.errors import UserError
from strop.heads.backends.triton_tiles import Blocks, default_blocks, row_tiles, row_walks, tile_bound
from strop.heads.plan import RoutingPlan

WIDEST = 256
LOG2_E = 1.4426950408889634
SMALLEST_TILE = 16
"""Rows of the smallest product of matrices; a KV head's rows of one new token fill a part of it."""
INTERPRETED_SPLITS = 4
FEW_KEYS = 64
"""Up to so many keys, rows' means of dP are computed from their shares."""
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def missing(query: Tensor, plan: RoutingPlan) -> str | None:
    """Say why this call cannot run here, or None where it can."""
    if query.dtype not in DTYPES:
        return f"the Triton kernels take float32, bfloat16 and float16, not {query.dtype}"
    if query.shape[-1] > WIDEST:
        return f"the Triton kernels take heads of width 1 to {WIDEST}, not {query.shape[-1]}"
    if find_spec("triton") is None:
        return "triton is not installed"
    if query.is_cuda or _interpreted():
        return None
    if import_module("triton").knobs.runtime.interpret:
        return "TRITON_INTERPRET=1 was set after triton had been imported: set it when the program starts"
    return "no GPU: the tensors are on the CPU; TRITON_INTERPRET=1 runs the kernels there, slowly, as a check"


def attend(
    query_rd: Tensor,
    key_bgtd: Tensor,
    value_bgtd: Tensor,
    *,
    plan: RoutingPlan,
    scale: float,
    blocks: Blocks | None = None,
    splits: int | None = None,
) -> Tensor:
    """Attend from every row to the keys that it sees; (r, d), zero for rows that see nothing. Differentiable.

    Args:
        query_rd: Packed rows of the plan, on the keys' device.
        key_bgtd: Keys, of the same type.
        value_bgtd: Values, of the same type and width.
        plan: The rows.
        scale: Of the scores.
        blocks: Sizes of the tiles; by the head's width and the rows of a token unless given.
        splits: Into how many parts the walk over the keys is cut, a power of two: more programs for few rows. By the
            number of tiles and the GPU unless given; 1 for long row lists.

    Raises:
        UserError: Types, widths or devices differ.
    """
    kinds = {(x.dtype, x.device, x.shape[-1]) for x in (query_rd, key_bgtd, value_bgtd)}
    if len(kinds) > 1:
        raise UserError(
            "queries, keys and values must have one type, one device and one width",
            value=", ".join(sorted(f"{kind} {width} on {device}" for kind, device, width in kinds)),
        )
    if blocks is None:
        tokens = max(plan.batch * plan.groups * plan.queries, 1)
        blocks = default_blocks(query_rd.shape[-1], query_rd.element_size(), plan.rows / tokens)
    if splits is None:
        splits = _splits(plan, query_rd.device)
    out: Tensor = _Attention.apply(query_rd, key_bgtd, value_bgtd, plan, scale, blocks, splits)  # type: ignore[no-untyped-call]
    return out


def decode(query_rd: Tensor, key_bgtd: Tensor, value_bgtd: Tensor, *, plan: RoutingPlan, scale: float) -> Tensor:
    """Attend from the rows of one new token of each sequence: reads the keys of chosen (sequence, KV head) pairs only.

    The same as `attend`, which cuts the walk over the keys by itself where there are few rows.
    """
    return attend(query_rd, key_bgtd, value_bgtd, plan=plan, scale=scale)


class _Attention(torch.autograd.Function):
    """The kernels, launched in order; tables of tiles are made once and serve both passes."""

    @staticmethod
    def forward(
        ctx: Any,
        query_rd: Tensor,
        key_bgtd: Tensor,
        value_bgtd: Tensor,
        plan: RoutingPlan,
        scale: float,
        blocks: Blocks,
        splits: int,
    ) -> Tensor:
        query_rd = query_rd.contiguous()
        key_bgtd, value_bgtd = (x if x.stride(-1) == 1 else x.contiguous() for x in (key_bgtd, value_bgtd))
        rows = blocks.rows if splits == 1 else SMALLEST_TILE
        tile_3i = row_tiles(plan, rows)
        out_rd = torch.empty_like(query_rd)
        logsum_r = torch.empty(plan.rows, dtype=torch.float32, device=query_rd.device)
        if plan.rows:
            with _on(query_rd):
                _forward(query_rd, key_bgtd, value_bgtd, out_rd, logsum_r, tile_3i, plan, scale, blocks, splits)
        ctx.save_for_backward(query_rd, key_bgtd, value_bgtd, out_rd, logsum_r, tile_3i if splits == 1 else None)
        ctx.plan, ctx.scale, ctx.blocks = plan, scale, blocks
        return out_rd

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout_rd: Tensor) -> tuple[Tensor | None, ...]:
        query_rd, key_bgtd, value_bgtd, out_rd, logsum_r, tile_3i = ctx.saved_tensors
        plan, blocks = ctx.plan, ctx.blocks
        if not plan.rows:
            return torch.zeros_like(query_rd), torch.zeros_like(key_bgtd), torch.zeros_like(value_bgtd), *[None] * 4
        if tile_3i is None:
            tile_3i = row_tiles(plan, blocks.rows)
        with _on(query_rd):
            dout_rd = dout_rd.contiguous()
            dquery_rd, means = _query_gradient(
                query_rd, key_bgtd, value_bgtd, out_rd, dout_rd, logsum_r, tile_3i, plan, ctx.scale, blocks
            )
            if not (ctx.needs_input_grad[1] or ctx.needs_input_grad[2]):
                return dquery_rd, *[None] * 6
            dkey_bgtd, dvalue_bgtd = _key_gradients(
                query_rd, key_bgtd, value_bgtd, dout_rd, logsum_r, means, plan, ctx.scale, blocks
            )
        return dquery_rd, dkey_bgtd, dvalue_bgtd, *[None] * 4


class Means(NamedTuple):
    """Each row's mean of dP; where keys are few, beside the dP of its top key (`triton_backward._mean_of_shares`)."""

    mean_r: Tensor
    top_r: Tensor
    centre_r: Tensor


def _forward(
    query_rd: Tensor,
    key_bgtd: Tensor,
    value_bgtd: Tensor,
    out_rd: Tensor,
    logsum_r: Tensor,
    tile_3i: Tensor,
    plan: RoutingPlan,
    scale: float,
    blocks: Blocks,
    splits: int,
) -> None:
    """Fill output and log-sum-exp."""
    kernels = import_module("strop.heads.backends.triton_forward")
    rows, width = query_rd.shape
    part_rd, part_r = out_rd, logsum_r
    if splits > 1:
        part_rd = query_rd.new_empty(splits, rows, width, dtype=torch.float32)
        part_r = logsum_r.new_empty(splits, rows)
    kernels.forward_kernel[tile_3i.shape[1], splits](
        query_rd,
        key_bgtd,
        value_bgtd,
        part_rd,
        part_r,
        plan.first_r,
        plan.last_r,
        tile_3i,
        tile_3i.shape[1],
        rows,
        plan.visible.keys,
        plan.groups,
        scale * LOG2_E,
        *key_bgtd.stride()[:3],
        *value_bgtd.stride()[:3],
        width=width,
        ROWS=blocks.rows if splits == 1 else SMALLEST_TILE,
        KEYS=blocks.keys,
        WIDE=_padded(width),
        SPLITS=splits,
        WIDEN=not query_rd.is_cuda,
        num_warps=blocks.warps if splits == 1 else 4,
        num_stages=blocks.stages,
    )
    if splits > 1:
        kernels.merge_kernel[(rows,)](
            part_rd, part_r, out_rd, logsum_r, rows, width=width, SPLITS=splits, WIDE=_padded(width)
        )


def _query_gradient(
    query_rd: Tensor,
    key_bgtd: Tensor,
    value_bgtd: Tensor,
    out_rd: Tensor,
    dout_rd: Tensor,
    logsum_r: Tensor,
    tile_3i: Tensor,
    plan: RoutingPlan,
    scale: float,
    blocks: Blocks,
) -> tuple[Tensor, Means]:
    """Return the gradient of the queries, and what the keys need of each row's mean of dP."""
    kernels = import_module("strop.heads.backends.triton_backward")
    dquery_rd = torch.empty_like(query_rd)
    means = Means(torch.empty_like(logsum_r), torch.empty_like(plan.last_r), torch.empty_like(logsum_r))
    kernels.query_kernel[(tile_3i.shape[1],)](
        query_rd,
        key_bgtd,
        value_bgtd,
        out_rd,
        dout_rd,
        logsum_r,
        *means,
        dquery_rd,
        plan.first_r,
        plan.last_r,
        tile_3i,
        tile_3i.shape[1],
        plan.visible.keys,
        plan.groups,
        scale * LOG2_E,
        scale,
        *key_bgtd.stride()[:3],
        *value_bgtd.stride()[:3],
        width=query_rd.shape[1],
        ROWS=blocks.rows,
        KEYS=blocks.backward_keys,
        WIDE=_padded(query_rd.shape[1]),
        WIDEN=not query_rd.is_cuda,
        FEW=plan.visible.keys <= FEW_KEYS,
        num_warps=blocks.backward_warps,
        num_stages=blocks.backward_stages,
    )
    return dquery_rd, means


def _key_gradients(
    query_rd: Tensor,
    key_bgtd: Tensor,
    value_bgtd: Tensor,
    dout_rd: Tensor,
    logsum_r: Tensor,
    means: Means,
    plan: RoutingPlan,
    scale: float,
    blocks: Blocks,
) -> tuple[Tensor, Tensor]:
    """Return the gradients of keys and values."""
    kernels = import_module("strop.heads.backends.triton_backward")
    dkey_bgtd, dvalue_bgtd = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (key_bgtd, value_bgtd))
    walk_4sj = row_walks(plan, blocks.owned_keys)
    kernels.key_kernel[walk_4sj.shape[1], walk_4sj.shape[2]](
        query_rd,
        key_bgtd,
        value_bgtd,
        dout_rd,
        logsum_r,
        *means,
        dkey_bgtd,
        dvalue_bgtd,
        plan.first_r,
        plan.last_r,
        walk_4sj,
        plan.visible.keys,
        plan.groups,
        scale * LOG2_E,
        scale,
        *key_bgtd.stride()[:3],
        *value_bgtd.stride()[:3],
        width=query_rd.shape[1],
        ROWS=blocks.walked_rows,
        KEYS=blocks.owned_keys,
        WIDE=_padded(query_rd.shape[1]),
        WIDEN=not query_rd.is_cuda,
        FEW=plan.visible.keys <= FEW_KEYS,
        num_warps=blocks.backward_warps,
        num_stages=blocks.backward_stages,
    )
    return dkey_bgtd, dvalue_bgtd


def _on(query: Tensor) -> AbstractContextManager[Any]:
    """Launch on the tensor's GPU; in the interpreter there is none."""
    return torch.cuda.device(query.device) if query.is_cuda else nullcontext()


def _padded(width: int) -> int:
    """Return the power of two, at least 16, that holds a head."""
    return max(SMALLEST_TILE, 1 << (width - 1).bit_length())


def _splits(plan: RoutingPlan, device: torch.device) -> int:
    """Cut the walk over the keys where the rows alone would leave most of the GPU idle."""
    if plan.rows > SMALLEST_TILE * plan.batch * plan.groups:
        return 1
    tiles = max(tile_bound(plan, SMALLEST_TILE), 1)
    programs = 2 * _processors(device.index or 0) if device.type == "cuda" else INTERPRETED_SPLITS * tiles
    most = max(plan.visible.keys // 128, 1) if device.type == "cuda" else INTERPRETED_SPLITS
    wanted = min(max(programs // tiles, 1), most, 64)
    return int(1 << (wanted.bit_length() - 1))


@cache
def _processors(index: int) -> int:
    """Return how many multiprocessors a GPU has."""
    return int(torch.cuda.get_device_properties(index).multi_processor_count)


@cache
def _interpreted() -> bool:
    """Say whether the kernels, and Triton's own functions that they call, run in its interpreter."""
    kernels = [import_module(f"strop.heads.backends.triton_{name}") for name in ("forward", "backward")]
    language = import_module("triton.language")
    functions = [language.max, kernels[0].forward_kernel, kernels[1].key_kernel]
    return all(type(function).__name__ == "InterpretedFunction" for function in functions)
