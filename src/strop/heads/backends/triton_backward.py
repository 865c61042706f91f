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

from strop.heads.backends.triton_forward import as_is, tile_rows, walk

jit: Callable[[Callable[..., Any]], Any] = triton.jit


@jit
def _query_step(
    query: tl.tensor,
    dout: tl.tensor,
    logsum: tl.tensor,
    top: tl.tensor,
    centre: tl.tensor,
    mean: tl.tensor,
    key_at: tl.tensor,
    value_at: tl.tensor,
    key_stride: tl.tensor,
    value_stride: tl.tensor,
    start: tl.tensor,
    first: tl.tensor,
    last: tl.tensor,
    dquery: tl.tensor,
    scale: tl.tensor,
    width: tl.constexpr,
    KEYS: tl.constexpr,
    WIDE: tl.constexpr,
    MASKED: tl.constexpr,
    WIDEN: tl.constexpr,
    FEW: tl.constexpr,
) -> Any:
    """Add what one block of keys gives to the gradient of the queries."""
    place = start + tl.arange(0, KEYS)
    wide = tl.arange(0, WIDE)
    inside = wide[:, None] < width
    if MASKED:
        inside = inside & (place[None, :] <= tl.max(last, 0))
    key_at = key_at + tl.cast(start, tl.int64) * key_stride
    value_at = value_at + tl.cast(start, tl.int64) * value_stride
    column = tl.arange(0, KEYS)[None, :]
    key = tl.load(key_at + (column * key_stride + wide[:, None]), mask=inside, other=0.0)
    value = tl.load(value_at + (column * value_stride + wide[:, None]), mask=inside, other=0.0)
    score = tl.dot(as_is(query, WIDEN), as_is(key, WIDEN), input_precision="ieee") * scale
    share = tl.exp2(score - logsum[:, None])
    if MASKED:
        share = tl.where((place[None, :] >= first[:, None]) & (place[None, :] <= last[:, None]), share, 0.0)
    dshare = tl.dot(as_is(dout, WIDEN), as_is(value, WIDEN), input_precision="ieee")
    if FEW:
        dshare = tl.where(place[None, :] == top[:, None], 0.0, dshare - centre[:, None])
    dscore = share * (dshare - mean[:, None])
    return tl.dot(as_is(dscore.to(key.dtype), WIDEN), as_is(tl.trans(key), WIDEN), dquery, input_precision="ieee")


@jit
def _mean_of_shares(
    query: tl.tensor,
    dout: tl.tensor,
    logsum: tl.tensor,
    key_at: tl.tensor,
    value_at: tl.tensor,
    key_stride: tl.tensor,
    value_stride: tl.tensor,
    low: tl.tensor,
    high: tl.tensor,
    first: tl.tensor,
    last: tl.tensor,
    scale: tl.tensor,
    width: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    WIDE: tl.constexpr,
    WIDEN: tl.constexpr,
) -> Any:
    """Return the mean of each row's dP over its keys, in blocks low to high - 1: a top key, its dP, the mean beside it.

    The mean of dP is the row's output times its gradient. Where one share is nearly 1, dS is a small difference of dP
    and this number, and dO . O would round it away. So both are taken from a centre, dP of the largest share: there the
    difference is exactly 0, however it is computed, and the mean is small. Over many keys no share is that large.
    """
    top = tl.full([ROWS], -1, tl.int32)
    most = tl.zeros([ROWS], tl.float32)
    centre = tl.zeros([ROWS], tl.float32)
    mass = tl.zeros([ROWS], tl.float32)
    mean = tl.zeros([ROWS], tl.float32)
    column = tl.arange(0, KEYS)[None, :]
    wide = tl.arange(0, WIDE)[:, None]
    for block in range(low, high):
        place = block * KEYS + column
        inside = (wide < width) & (place <= tl.max(last, 0))
        key = tl.load(key_at + (place.to(tl.int64) * key_stride + wide), mask=inside, other=0.0)
        value = tl.load(value_at + (place.to(tl.int64) * value_stride + wide), mask=inside, other=0.0)
        score = tl.dot(as_is(query, WIDEN), as_is(key, WIDEN), input_precision="ieee") * scale
        seen = (place >= first[:, None]) & (place <= last[:, None])
        share = tl.where(seen, tl.exp2(score - logsum[:, None]), 0.0)
        dshare = tl.dot(as_is(dout, WIDEN), as_is(value, WIDEN), input_precision="ieee")
        largest = tl.max(share, 1)
        now = tl.argmax(share, 1)
        there = tl.sum(tl.where(column == now[:, None], dshare, 0.0), 1)
        moved = tl.where(largest > most, there, centre)
        mean += mass * (centre - moved) + tl.sum(share * (dshare - moved[:, None]), 1)
        mass += tl.sum(share, 1)
        top = tl.where(largest > most, block * KEYS + now, top)
        centre = moved
        most = tl.maximum(most, largest)
    return top, centre, mean / tl.where(mass > 0, mass, 1.0)


@jit
def query_kernel(
    query_ptr: tl.tensor,
    key_ptr: tl.tensor,
    value_ptr: tl.tensor,
    out_ptr: tl.tensor,
    dout_ptr: tl.tensor,
    logsum_ptr: tl.tensor,
    mean_ptr: tl.tensor,
    top_ptr: tl.tensor,
    centre_ptr: tl.tensor,
    dquery_ptr: tl.tensor,
    first_ptr: tl.tensor,
    last_ptr: tl.tensor,
    tile_ptr: tl.tensor,
    tiles: tl.tensor,
    keys: tl.tensor,
    groups: tl.tensor,
    scale: tl.tensor,
    unit: tl.tensor,
    key_batch: tl.tensor,
    key_group: tl.tensor,
    key_stride: tl.tensor,
    value_batch: tl.tensor,
    value_group: tl.tensor,
    value_stride: tl.tensor,
    width: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    WIDE: tl.constexpr,
    WIDEN: tl.constexpr,
    FEW: tl.constexpr,
) -> None:
    """Write the gradient of one tile's queries, and each row's mean of dP, which the keys need too."""
    tile = tl.program_id(0)
    segment = tl.load(tile_ptr + tile)
    if segment < 0:
        return
    begin, real, first, last = tile_rows(tile_ptr + tile, tiles, first_ptr, last_ptr, keys, ROWS)
    wide = tl.arange(0, WIDE)
    key_at = key_ptr + (segment // groups).to(tl.int64) * key_batch + (segment % groups).to(tl.int64) * key_group
    value_at = (
        value_ptr + (segment // groups).to(tl.int64) * value_batch + (segment % groups).to(tl.int64) * value_group
    )
    row = begin + tl.arange(0, ROWS)
    base = begin.to(tl.int64) * width
    at = tl.arange(0, ROWS)[:, None] * width + wide[None, :]
    inside = real[:, None] & (wide[None, :] < width)
    query = tl.load(query_ptr + base + at, mask=inside, other=0.0)
    dout = tl.load(dout_ptr + base + at, mask=inside, other=0.0)
    out = tl.load(out_ptr + base + at, mask=inside, other=0.0)
    top = tl.full([ROWS], -1, tl.int32)
    centre = tl.zeros([ROWS], tl.float32)
    mean = tl.sum(out.to(tl.float32) * dout.to(tl.float32), 1)
    logsum = tl.load(logsum_ptr + row, mask=real, other=float("inf"))

    low, whole, whole_end, high = walk(first, last, keys, KEYS)
    if FEW:
        top, centre, mean = _mean_of_shares(
            query, dout, logsum, key_at, value_at, key_stride, value_stride, low, high, first, last, scale, width, ROWS,
            KEYS, WIDE, WIDEN,
        )  # fmt: skip
        tl.store(top_ptr + row, top, mask=real)
        tl.store(centre_ptr + row, centre, mask=real)
    tl.store(mean_ptr + row, mean, mask=real)
    dquery = tl.zeros([ROWS, WIDE], tl.float32)
    for block in range(whole, whole_end):
        dquery = _query_step(
            query, dout, logsum, top, centre, mean, key_at, value_at, key_stride, value_stride, block * KEYS, first,
            last, dquery, scale, width, KEYS, WIDE, False, WIDEN, FEW,
        )  # fmt: skip
    for edge in range(low, high - (whole_end - whole)):
        block = tl.where(edge < whole, edge, edge + (whole_end - whole))
        dquery = _query_step(
            query, dout, logsum, top, centre, mean, key_at, value_at, key_stride, value_stride, block * KEYS, first,
            last, dquery, scale, width, KEYS, WIDE, True, WIDEN, FEW,
        )  # fmt: skip
    tl.store(dquery_ptr + base + at, (dquery * unit).to(dquery_ptr.dtype.element_ty), mask=inside)


@jit
def _key_step(
    key: tl.tensor,
    value: tl.tensor,
    place: tl.tensor,
    query_ptr: tl.tensor,
    dout_ptr: tl.tensor,
    logsum_ptr: tl.tensor,
    mean_ptr: tl.tensor,
    top_ptr: tl.tensor,
    centre_ptr: tl.tensor,
    first_ptr: tl.tensor,
    last_ptr: tl.tensor,
    start: tl.tensor,
    end: tl.tensor,
    dkey: tl.tensor,
    dvalue: tl.tensor,
    scale: tl.tensor,
    width: tl.constexpr,
    ROWS: tl.constexpr,
    WIDE: tl.constexpr,
    MASKED: tl.constexpr,
    WIDEN: tl.constexpr,
    FEW: tl.constexpr,
) -> Any:
    """Add what one block of rows gives to the gradients of keys and values."""
    row = start + tl.arange(0, ROWS)
    real = row < end
    wide = tl.arange(0, WIDE)
    base = tl.cast(start, tl.int64) * width
    at = tl.arange(0, ROWS)[:, None] * width + wide[None, :]
    inside = real[:, None] & (wide[None, :] < width)
    query = tl.load(query_ptr + base + at, mask=inside, other=0.0)
    dout = tl.load(dout_ptr + base + at, mask=inside, other=0.0)
    logsum = tl.load(logsum_ptr + row, mask=real, other=float("inf"))
    mean = tl.load(mean_ptr + row, mask=real, other=0.0)
    score = tl.dot(as_is(key, WIDEN), as_is(tl.trans(query), WIDEN), input_precision="ieee") * scale
    share = tl.exp2(score - logsum[None, :])
    if MASKED:
        first = tl.load(first_ptr + row, mask=real, other=1)
        last = tl.load(last_ptr + row, mask=real, other=0)
        share = tl.where((place[:, None] >= first[None, :]) & (place[:, None] <= last[None, :]), share, 0.0)
    dvalue = tl.dot(as_is(share.to(dout.dtype), WIDEN), as_is(dout, WIDEN), dvalue, input_precision="ieee")
    dshare = tl.dot(as_is(value, WIDEN), as_is(tl.trans(dout), WIDEN), input_precision="ieee")
    if FEW:
        top = tl.load(top_ptr + row, mask=real, other=-1)
        centre = tl.load(centre_ptr + row, mask=real, other=0.0)
        dshare = tl.where(place[:, None] == top[None, :], 0.0, dshare - centre[None, :])
    dscore = share * (dshare - mean[None, :])
    dkey = tl.dot(as_is(dscore.to(query.dtype), WIDEN), as_is(query, WIDEN), dkey, input_precision="ieee")
    return dkey, dvalue


@jit
def key_kernel(
    query_ptr: tl.tensor,
    key_ptr: tl.tensor,
    value_ptr: tl.tensor,
    dout_ptr: tl.tensor,
    logsum_ptr: tl.tensor,
    mean_ptr: tl.tensor,
    top_ptr: tl.tensor,
    centre_ptr: tl.tensor,
    dkey_ptr: tl.tensor,
    dvalue_ptr: tl.tensor,
    first_ptr: tl.tensor,
    last_ptr: tl.tensor,
    walk_ptr: tl.tensor,
    keys: tl.tensor,
    groups: tl.tensor,
    scale: tl.tensor,
    unit: tl.tensor,
    key_batch: tl.tensor,
    key_group: tl.tensor,
    key_stride: tl.tensor,
    value_batch: tl.tensor,
    value_group: tl.tensor,
    value_stride: tl.tensor,
    width: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    WIDE: tl.constexpr,
    WIDEN: tl.constexpr,
    FEW: tl.constexpr,
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
            key, value, place, query_ptr, dout_ptr, logsum_ptr, mean_ptr, top_ptr, centre_ptr, first_ptr,
            last_ptr, low + block * ROWS, high, dkey, dvalue, scale, width, ROWS, WIDE, False, WIDEN, FEW,
        )  # fmt: skip
    for edge in range(0, blocks - (whole_end - whole)):
        block = tl.where(edge < whole, edge, edge + (whole_end - whole))
        dkey, dvalue = _key_step(
            key, value, place, query_ptr, dout_ptr, logsum_ptr, mean_ptr, top_ptr, centre_ptr, first_ptr,
            last_ptr, low + block * ROWS, high, dkey, dvalue, scale, width, ROWS, WIDE, True, WIDEN, FEW,
        )  # fmt: skip
    at = (segment.to(tl.int64) * keys + place[:, None]) * width + wide[None, :]
    tl.store(dkey_ptr + at, (dkey * unit).to(dkey_ptr.dtype.element_ty), mask=inside)
    tl.store(dvalue_ptr + at, dvalue.to(dvalue_ptr.dtype.element_ty), mask=inside)
