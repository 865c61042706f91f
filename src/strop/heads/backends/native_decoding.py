"""Decoding and packing by the C++ kernels: one new token over a cache, and the routing plan of a mask.

Shapes: b batch rows, n queries, t keys, h query heads, g KV heads, d head width.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from strop.errors import UserError
from strop.heads.backends.native_calls import address, call, require
from strop.heads.plan import RoutingPlan
from strop.heads.visibility import Visible


class _Cache(ctypes.Structure):
    """`Cache` of csrc/decoding.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("query", "key", "value", "chosen", "gate", "first", "last")),
        *((name, ctypes.c_int64) for name in ("batch", "groups", "heads", "width")),
        *((name, ctypes.c_int64) for name in ("key_batch", "key_group", "key_token")),
        *((name, ctypes.c_int64) for name in ("value_batch", "value_group", "value_token")),
        ("scale", ctypes.c_float),
    )


def decode(
    query_bh1d: Tensor,
    key_bgtd: Tensor,
    value_bgtd: Tensor,
    *,
    head_mask_bnh: Tensor,
    visible: Visible,
    scale: float,
    gate_bnh: Tensor | None = None,
) -> Tensor:
    """Attend from one new token of each row with its chosen heads; (b, h, 1, d), zero for the others.

    Groups without a chosen head are not read. There is no gradient.

    Args:
        query_bh1d: Queries of all heads; only those of chosen ones are read.
        key_bgtd: Cached keys, the new token's included; any strides but the last.
        value_bgtd: Cached values.
        head_mask_bnh: True where the token uses a head; n is 1.
        visible: The keys that each row's token sees.
        scale: Of the scores.
        gate_bnh: What each head's output is multiplied by.
    """
    batch, heads, queries, width = query_bh1d.shape
    require(query_bh1d, key_bgtd, value_bgtd, head_width=width)
    if queries != 1:
        raise UserError("decoding takes one new token of each row", value=queries, fix="use moh_attention")
    key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in (key_bgtd, value_bgtd))
    query, chosen = query_bh1d.contiguous(), head_mask_bnh.contiguous()
    gate = None if gate_bnh is None else gate_bnh.float().contiguous()
    first, last = visible.first_bn.contiguous(), visible.last_bn.contiguous()
    out = torch.empty_like(query)
    addresses = (address(x) for x in (query, key, value, chosen, gate, first, last))
    sizes = batch, key.shape[1], heads, width
    call("strop_decode", _Cache(*addresses, *sizes, *key.stride()[:3], *value.stride()[:3], scale), out)
    return out


def build_plan(
    head_mask_bnh: Tensor, *, groups: int, visible: Visible, rows_per_group: int | None = None
) -> RoutingPlan:
    """Pack the chosen pairs of a layer: what `routing_plan` does, with the visible keys of every row filled in.

    Args:
        head_mask_bnh: (b, n, h) True where a token uses a head; on the CPU.
        groups: KV heads, G.
        visible: The keys that each query sees.
        rows_per_group: As for `routing_plan`.
    """
    b, n, h = head_mask_bnh.shape
    mask = head_mask_bnh.contiguous()
    offset_s = torch.empty(b * groups + 1, dtype=torch.int64)
    call("strop_count_rows", mask, b, n, h, groups, offset_s)
    rows = int(offset_s[-1])
    token_r, head_r = torch.empty(2, rows, dtype=torch.int64)
    first_r, last_r = torch.empty(2, rows, dtype=torch.int32)
    first_bn, last_bn = visible.first_bn.contiguous(), visible.last_bn.contiguous()
    rest = first_bn, last_bn, token_r, head_r, first_r, last_r
    call("strop_fill_rows", mask, b, n, h, groups, offset_s, *rest)
    sizes = {"batch": b, "queries": n, "heads": h, "groups": groups}
    plan = RoutingPlan(token_r, head_r, offset_s, visible, **sizes, uniform=rows_per_group)
    vars(plan).update(first_r=first_r, last_r=last_r)  # what its cached properties would compute
    return plan
