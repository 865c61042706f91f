"""Decoding by the C++ kernels: one new token over a cache.

Shapes: b batch rows, n queries (1), t keys, h query heads, g KV heads, d head width.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from strop.errors import UserError
from strop.heads.backends.native_calls import address, call, require, require_shapes
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
    groups, keys = key_bgtd.shape[1], max(visible.keys, key_bgtd.shape[2])
    cache = batch, groups, keys, width
    require_shapes(
        key_bgtd=(key_bgtd.shape, cache),
        value_bgtd=(value_bgtd.shape, cache),
        head_mask_bnh=(head_mask_bnh.shape, (batch, 1, heads)),
        visible=(visible.first_bn.shape, (batch, 1)),
    )
    key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in (key_bgtd, value_bgtd))
    query, chosen = query_bh1d.contiguous(), head_mask_bnh.bool().contiguous()
    gate = None if gate_bnh is None else gate_bnh.float().contiguous()
    first, last = visible.first_bn.contiguous(), visible.last_bn.contiguous()
    out = torch.empty_like(query)
    addresses = (address(x) for x in (query, key, value, chosen, gate, first, last))
    sizes = batch, groups, heads, width
    call("strop_decode", _Cache(*addresses, *sizes, *key.stride()[:3], *value.stride()[:3], scale), out)
    return out
