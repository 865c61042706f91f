"""GPU programs of the forward pass and of decoding; imported only where Triton is there.

A program takes one tile of rows and walks over the keys between the tile's first and last visible one: those that every
row sees without a mask, the rest with one. In decoding several programs share that walk, and a second kernel merges
what they found by its log-sum-exp. Scores are in base 2.

FlashAttention-2 (arXiv 2307.08691) with rows packed per KV head: positions come from a table, not from the row's index.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

jit: Callable[[Callable[..., Any]], Any] = triton.jit


@jit
def as_is(factor: tl.tensor, WIDEN: tl.constexpr) -> Any:
    """Return a factor of a product of matrices; widened in the interpreter, which multiplies bfloat16 bit by bit."""
    return factor.to(tl.float32) if WIDEN else factor


@jit
def tile_rows(
    tile_at: tl.tensor,
    tiles: tl.tensor,
    first_ptr: tl.tensor,
    last_ptr: tl.tensor,
    keys: tl.tensor,
    ROWS: tl.constexpr,
) -> Any:
    """Return a tile's first row, which of its rows exist, and what each sees: first and last key, or `keys` and -1."""
    begin = tl.load(tile_at + tiles)
    row = begin + tl.arange(0, ROWS)
    real = row < tl.load(tile_at + 2 * tiles)
    first = tl.load(first_ptr + row, mask=real, other=keys)
    last = tl.load(last_ptr + row, mask=real, other=-1)
    seeing = first <= last
    return begin, real, tl.where(seeing, first, keys), tl.where(seeing, last, -1)


@jit
def walk(first: tl.tensor, last: tl.tensor, keys: tl.tensor, KEYS: tl.constexpr) -> Any:
    """Return, in blocks of keys, where the keys of a tile begin and end, and between, those that all its rows see."""
    seeing = last >= 0
    low = tl.min(first, 0) // KEYS
    high = tl.maximum((tl.max(last, 0) + KEYS) // KEYS, low)
    whole = (tl.max(tl.where(seeing, first, 0), 0) + KEYS - 1) // KEYS
    whole = tl.maximum(tl.minimum(whole, high), low)
    whole_end = (tl.min(tl.where(seeing, last, keys - 1), 0) + 1) // KEYS
    return low, whole, tl.minimum(tl.maximum(whole_end, whole), high), high


@jit
def _step(
    query: tl.tensor,
    key_at: tl.tensor,
    value_at: tl.tensor,
    key_stride: tl.tensor,
    value_stride: tl.tensor,
    start: tl.tensor,
    first: tl.tensor,
    last: tl.tensor,
    total: tl.tensor,
    most: tl.tensor,
    mass: tl.tensor,
    scale: tl.tensor,
    width: tl.constexpr,
    KEYS: tl.constexpr,
    WIDE: tl.constexpr,
    MASKED: tl.constexpr,
    WIDEN: tl.constexpr,
) -> Any:
    """Take one block of keys into the running sums: softmax online."""
    place = start + tl.arange(0, KEYS)
    wide = tl.arange(0, WIDE)
    # Distances inside a block are short; only where it begins may need 64 bits.
    begin = tl.cast(start, tl.int64)
    key_at = key_at + begin * key_stride + (tl.arange(0, KEYS)[None, :] * key_stride + wide[:, None])
    value_at = value_at + begin * value_stride + (tl.arange(0, KEYS)[:, None] * value_stride + wide[None, :])
    if MASKED:
        near = place <= tl.max(last, 0)
        key = tl.load(key_at, mask=near[None, :] & (wide[:, None] < width), other=0.0)
        value = tl.load(value_at, mask=near[:, None] & (wide[None, :] < width), other=0.0)
    elif width == WIDE:
        key = tl.load(key_at)
        value = tl.load(value_at)
    else:
        key = tl.load(key_at, mask=wide[:, None] < width, other=0.0)
        value = tl.load(value_at, mask=wide[None, :] < width, other=0.0)
    score = tl.dot(as_is(query, WIDEN), as_is(key, WIDEN), input_precision="ieee") * scale
    if MASKED:
        seen = (place[None, :] >= first[:, None]) & (place[None, :] <= last[:, None])
        score = tl.where(seen, score, float("-inf"))
    now = tl.maximum(most, tl.max(score, 1))
    # Rows that have seen nothing yet: -inf minus -inf would not be a number.
    level = tl.where(now == float("-inf"), 0.0, now) if MASKED else now
    share = tl.exp2(score - level[:, None])
    shrink = tl.exp2(most - level)
    mass = mass * shrink + tl.sum(share, 1)
    total = tl.dot(
        as_is(share.to(value.dtype), WIDEN), as_is(value, WIDEN), total * shrink[:, None], input_precision="ieee"
    )
    return total, now, mass


@jit
def forward_kernel(
    query_ptr: tl.tensor,
    key_ptr: tl.tensor,
    value_ptr: tl.tensor,
    out_ptr: tl.tensor,
    logsum_ptr: tl.tensor,
    first_ptr: tl.tensor,
    last_ptr: tl.tensor,
    tile_ptr: tl.tensor,
    tiles: tl.tensor,
    rows: tl.tensor,
    keys: tl.tensor,
    groups: tl.tensor,
    scale: tl.tensor,
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
    SPLITS: tl.constexpr,
    WIDEN: tl.constexpr,
) -> None:
    """Attend from one tile of rows, or with SPLITS > 1 from it to a part of its keys."""
    tile = tl.program_id(0)
    split = tl.program_id(1)
    segment = tl.load(tile_ptr + tile)
    if segment < 0:
        return
    begin, real, first, last = tile_rows(tile_ptr + tile, tiles, first_ptr, last_ptr, keys, ROWS)
    wide = tl.arange(0, WIDE)
    key_at = key_ptr + (segment // groups).to(tl.int64) * key_batch + (segment % groups).to(tl.int64) * key_group
    value_at = (
        value_ptr + (segment // groups).to(tl.int64) * value_batch + (segment % groups).to(tl.int64) * value_group
    )
    at = tl.arange(0, ROWS)[:, None] * width + wide[None, :]
    inside = real[:, None] & (wide[None, :] < width)
    query = tl.load(query_ptr + begin.to(tl.int64) * width + at, mask=inside, other=0.0)

    low, whole, whole_end, high = walk(first, last, keys, KEYS)
    if SPLITS > 1:
        part = (high - low + SPLITS - 1) // SPLITS
        high = tl.minimum(low + (split + 1) * part, high)
        low = tl.minimum(low + split * part, high)
        whole = tl.minimum(tl.maximum(whole, low), high)
        whole_end = tl.minimum(tl.maximum(whole_end, low), high)

    total = tl.zeros([ROWS, WIDE], tl.float32)
    most = tl.full([ROWS], float("-inf"), tl.float32)
    mass = tl.zeros([ROWS], tl.float32)
    for block in range(whole, whole_end):
        total, most, mass = _step(
            query, key_at, value_at, key_stride, value_stride, block * KEYS, first, last, total, most, mass, scale,
            width, KEYS, WIDE, False, WIDEN,
        )  # fmt: skip
    for edge in range(low, high - (whole_end - whole)):
        block = tl.where(edge < whole, edge, edge + (whole_end - whole))
        total, most, mass = _step(
            query, key_at, value_at, key_stride, value_stride, block * KEYS, first, last, total, most, mass, scale,
            width, KEYS, WIDE, True, WIDEN,
        )  # fmt: skip

    mass = tl.where(last >= 0, mass, 0.0)
    safe = tl.where(mass > 0, mass, 1.0)
    out = tl.where((mass > 0)[:, None], total / safe[:, None], 0.0)
    if SPLITS > 1:
        logsum = tl.where(mass > 0, most + tl.log2(safe), float("-inf"))
        begin += split * rows
    else:
        # Shares are 2 ** (score - logsum): 0 for rows that see nothing.
        logsum = tl.where(mass > 0, most + tl.log2(safe), float("inf"))
    tl.store(out_ptr + begin.to(tl.int64) * width + at, out.to(out_ptr.dtype.element_ty), mask=inside)
    tl.store(logsum_ptr + begin + tl.arange(0, ROWS), logsum, mask=real)


@jit
def merge_kernel(
    part_ptr: tl.tensor,
    part_logsum_ptr: tl.tensor,
    out_ptr: tl.tensor,
    logsum_ptr: tl.tensor,
    rows: tl.tensor,
    width: tl.constexpr,
    SPLITS: tl.constexpr,
    WIDE: tl.constexpr,
) -> None:
    """Merge what the parts of one row's keys gave."""
    row = tl.program_id(0).to(tl.int64)
    split = tl.arange(0, SPLITS)
    wide = tl.arange(0, WIDE)
    logsum = tl.load(part_logsum_ptr + split * rows + row)
    most = tl.max(logsum, 0)
    level = tl.where(most == float("-inf"), 0.0, most)
    share = tl.exp2(logsum - level)
    mass = tl.sum(share, 0)
    at = (split[:, None] * rows + row) * width + wide[None, :]
    part = tl.load(part_ptr + at, mask=wide[None, :] < width, other=0.0)
    seeing = mass > 0
    safe = tl.where(seeing, mass, 1.0)
    out = tl.sum(part * (share / safe)[:, None], 0)
    tl.store(out_ptr + row * width + wide, out.to(out_ptr.dtype.element_ty), mask=wide < width)
    tl.store(logsum_ptr + row, tl.where(seeing, level + tl.log2(safe), float("inf")))
