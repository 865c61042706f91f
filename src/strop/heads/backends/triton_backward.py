"""GPU programs of the backward pass; imported only where Triton is there. No atomics: the same bits in every run.

One program for each tile of rows gives the gradient of its queries; one for each tile of keys walks over the rows that
see it and gives the gradients of keys and values, summed over the query heads of the group as it goes.

FlashAttention-2 (arXiv 2307.08691), section 3.1, with rows packed per KV head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

from strop.heads.backends.triton_forward import tile_rows, walk

jit: Callable[[Callable[..., Any]], Any] = triton.jit


@jit
def _query_step(
    query: Any,
    dout: Any,
    logsum: Any,
    delta: Any,
    key_at: Any,
    value_at: Any,
    key_stride: Any,
    value_stride: Any,
    start: Any,
    first: Any,
    last: Any,
    dquery: Any,
    scale: Any,
    width: tl.constexpr,
    KEYS: tl.constexpr,
    WIDE: tl.constexpr,
    MASKED: tl.constexpr,
    PRECISION: tl.constexpr,
) -> Any:
    """Add what one block of keys gives to the gradient of the queries."""
    place = start + tl.arange(0, KEYS)
    wide = tl.arange(0, WIDE)
    inside = wide[:, None] < width
    if MASKED:
        inside = inside & (place[None, :] <= tl.max(last, 0))
    offset = place[None, :].to(tl.int64)
    key = tl.load(key_at + offset * key_stride + wide[:, None], mask=inside, other=0.0)
    value = tl.load(value_at + offset * value_stride + wide[:, None], mask=inside, other=0.0)
    score = tl.dot(query, key, input_precision=PRECISION) * scale
    share = tl.exp2(score - logsum[:, None])
    if MASKED:
        share = tl.where((place[None, :] >= first[:, None]) & (place[None, :] <= last[:, None]), share, 0.0)
    dshare = tl.dot(dout, value, input_precision=PRECISION)
    dscore = share * (dshare - delta[:, None])
    return tl.dot(dscore.to(key.dtype), tl.trans(key), dquery, input_precision=PRECISION)


@jit
def query_kernel(
    query_ptr: Any,
    key_ptr: Any,
    value_ptr: Any,
    out_ptr: Any,
    dout_ptr: Any,
    logsum_ptr: Any,
    delta_ptr: Any,
    dquery_ptr: Any,
    first_ptr: Any,
    last_ptr: Any,
    tile_ptr: Any,
    tiles: Any,
    keys: Any,
    groups: Any,
    scale: Any,
    unit: Any,
    key_batch: Any,
    key_group: Any,
    key_stride: Any,
    value_batch: Any,
    value_group: Any,
    value_stride: Any,
    width: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:
    """Write the gradient of one tile's queries, and each row's output times its gradient, which the keys need too."""
    tile = tl.program_id(0)
    segment = tl.load(tile_ptr + tile)
    if segment < 0:
        return
    row, real, first, last = tile_rows(tile_ptr + tile, tiles, first_ptr, last_ptr, keys, ROWS)
    wide = tl.arange(0, WIDE)
    key_at = key_ptr + (segment // groups).to(tl.int64) * key_batch + (segment % groups).to(tl.int64) * key_group
    value_at = (
        value_ptr + (segment // groups).to(tl.int64) * value_batch + (segment % groups).to(tl.int64) * value_group
    )
    at = row[:, None].to(tl.int64) * width + wide[None, :]
    inside = real[:, None] & (wide[None, :] < width)
    query = tl.load(query_ptr + at, mask=inside, other=0.0)
    dout = tl.load(dout_ptr + at, mask=inside, other=0.0)
    out = tl.load(out_ptr + at, mask=inside, other=0.0)
    delta = tl.sum(out.to(tl.float32) * dout.to(tl.float32), 1)
    tl.store(delta_ptr + row, delta, mask=real)
    logsum = tl.load(logsum_ptr + row, mask=real, other=float("inf"))

    low, whole, whole_end, high = walk(first, last, keys, KEYS)
    dquery = tl.zeros([ROWS, WIDE], tl.float32)
    for block in range(whole, whole_end):
        dquery = _query_step(
            query, dout, logsum, delta, key_at, value_at, key_stride, value_stride, block * KEYS, first, last, dquery,
            scale, width, KEYS, WIDE, False, PRECISION,
        )  # fmt: skip
    for edge in range(low, high - (whole_end - whole)):
        block = tl.where(edge < whole, edge, edge + (whole_end - whole))
        dquery = _query_step(
            query, dout, logsum, delta, key_at, value_at, key_stride, value_stride, block * KEYS, first, last, dquery,
            scale, width, KEYS, WIDE, True, PRECISION,
        )  # fmt: skip
    tl.store(dquery_ptr + at, (dquery * unit).to(dquery_ptr.dtype.element_ty), mask=inside)


@jit
def _key_step(
    key: Any,
    value: Any,
    place: Any,
    query_ptr: Any,
    dout_ptr: Any,
    logsum_ptr: Any,
    delta_ptr: Any,
    first_ptr: Any,
    last_ptr: Any,
    start: Any,
    end: Any,
    dkey: Any,
    dvalue: Any,
    scale: Any,
    width: tl.constexpr,
    ROWS: tl.constexpr,
    WIDE: tl.constexpr,
    MASKED: tl.constexpr,
    PRECISION: tl.constexpr,
) -> Any:
    """Add what one block of rows gives to the gradients of keys and values."""
    row = start + tl.arange(0, ROWS)
    real = row < end
    wide = tl.arange(0, WIDE)
    at = row[:, None].to(tl.int64) * width + wide[None, :]
    inside = real[:, None] & (wide[None, :] < width)
    query = tl.load(query_ptr + at, mask=inside, other=0.0)
    dout = tl.load(dout_ptr + at, mask=inside, other=0.0)
    logsum = tl.load(logsum_ptr + row, mask=real, other=float("inf"))
    delta = tl.load(delta_ptr + row, mask=real, other=0.0)
    score = tl.dot(key, tl.trans(query), input_precision=PRECISION) * scale
    share = tl.exp2(score - logsum[None, :])
    if MASKED:
        first = tl.load(first_ptr + row, mask=real, other=1)
        last = tl.load(last_ptr + row, mask=real, other=0)
        share = tl.where((place[:, None] >= first[None, :]) & (place[:, None] <= last[None, :]), share, 0.0)
    dvalue = tl.dot(share.to(dout.dtype), dout, dvalue, input_precision=PRECISION)
    dshare = tl.dot(value, tl.trans(dout), input_precision=PRECISION)
    dscore = share * (dshare - delta[None, :])
    dkey = tl.dot(dscore.to(query.dtype), query, dkey, input_precision=PRECISION)
    return dkey, dvalue


@jit
def key_kernel(
    query_ptr: Any,
    key_ptr: Any,
    value_ptr: Any,
    dout_ptr: Any,
    logsum_ptr: Any,
    delta_ptr: Any,
    dkey_ptr: Any,
    dvalue_ptr: Any,
    first_ptr: Any,
    last_ptr: Any,
    walk_ptr: Any,
    keys: Any,
    groups: Any,
    scale: Any,
    unit: Any,
    key_batch: Any,
    key_group: Any,
    key_stride: Any,
    value_batch: Any,
    value_group: Any,
    value_stride: Any,
    width: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:
    """Write the gradients of one tile of keys and values of one segment; causal: the first tiles are the longest."""
    segment = tl.program_id(0)
    tile = tl.program_id(1)
    place = tile * KEYS + tl.arange(0, KEYS)
    wide = tl.arange(0, WIDE)
    inside = (place[:, None] < keys) & (wide[None, :] < width)
    batch = (segment // groups).to(tl.int64)
    group = (segment % groups).to(tl.int64)
    offset = place[:, None].to(tl.int64)
    key_at = key_ptr + batch * key_batch + group * key_group + offset * key_stride + wide[None, :]
    value_at = value_ptr + batch * value_batch + group * value_group + offset * value_stride + wide[None, :]
    key = tl.load(key_at, mask=inside, other=0.0)
    value = tl.load(value_at, mask=inside, other=0.0)

    walk_at = walk_ptr + segment * tl.num_programs(1) + tile
    table = tl.num_programs(0) * tl.num_programs(1)
    low = tl.load(walk_at)
    high = tl.load(walk_at + 3 * table)
    # In blocks of rows from the first one; the whole ones are cut to whole blocks.
    blocks = (high - low + ROWS - 1) // ROWS
    whole = tl.minimum((tl.load(walk_at + table) - low + ROWS - 1) // ROWS, blocks)
    whole_end = tl.maximum((tl.load(walk_at + 2 * table) - low) // ROWS, whole)
    dkey = tl.zeros([KEYS, WIDE], tl.float32)
    dvalue = tl.zeros([KEYS, WIDE], tl.float32)
    for block in range(whole, whole_end):
        dkey, dvalue = _key_step(
            key, value, place, query_ptr, dout_ptr, logsum_ptr, delta_ptr, first_ptr, last_ptr, low + block * ROWS,
            high, dkey, dvalue, scale, width, ROWS, WIDE, False, PRECISION,
        )  # fmt: skip
    for edge in range(0, blocks - (whole_end - whole)):
        block = tl.where(edge < whole, edge, edge + (whole_end - whole))
        dkey, dvalue = _key_step(
            key, value, place, query_ptr, dout_ptr, logsum_ptr, delta_ptr, first_ptr, last_ptr, low + block * ROWS,
            high, dkey, dvalue, scale, width, ROWS, WIDE, True, PRECISION,
        )  # fmt: skip
    at = (segment.to(tl.int64) * keys + place[:, None]) * width + wide[None, :]
    tl.store(dkey_ptr + at, (dkey * unit).to(dkey_ptr.dtype.element_ty), mask=inside)
    tl.store(dvalue_ptr + at, dvalue.to(dvalue_ptr.dtype.element_ty), mask=inside)
