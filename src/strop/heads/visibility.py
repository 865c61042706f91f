"""Which keys a query may see, as one interval per query: causal, bidirectional, padded, packed and sliding windows.

Shapes: b batch rows, n queries, t keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True)
class Visible:
    """The keys ``first..last`` (both included) that each query sees.

    From one query that sees something to the next one that does, neither end falls. A query with ``first > last`` sees
    nothing: it is padding, its output is zero, and it is left out of every mean.

    Attributes:
        first_bn: First visible key, int32.
        last_bn: Last visible key, int32; -1 where nothing is visible.
        keys: Number of keys, t.
        causal: Known to be plain causal attention: first 0, last ``t - n + i``, for every row.
        everything: Known to be full attention: first 0, last ``t - 1``, for every row.
    """

    first_bn: Tensor
    last_bn: Tensor
    keys: int
    causal: bool = False
    everything: bool = False

    @property
    def seen_bn(self) -> Tensor:
        """Which queries see a key at all: the tokens that are not padding."""
        return self.first_bn <= self.last_bn

    def mask_bnt(self) -> Tensor:
        """Return the same as a mask, True where a key is visible; (b, n, t)."""
        position_t = torch.arange(self.keys, device=self.first_bn.device)
        return (position_t >= self.first_bn[..., None]) & (position_t <= self.last_bn[..., None])


def causal(batch: int, queries: int, keys: int | None = None, *, device: torch.device | str = "cpu") -> Visible:
    """Let query i of n see the keys up to its own place, which is ``t - n + i`` behind a cache.

    The last few are kept: for some dozens of tokens making them takes a thirtieth of the attention.
    """
    make = _causal.__wrapped__ if torch.compiler.is_compiling() else _causal
    return make(batch, queries, queries if keys is None else keys, torch.device(device))


@lru_cache(maxsize=16)
def _causal(batch: int, queries: int, keys: int, device: torch.device) -> Visible:
    with torch.inference_mode(False):  # else a pass with gradients could not use what one without has made
        last_bn = torch.arange(keys - queries, keys, device=device, dtype=torch.int32).expand(batch, queries)
        return Visible(torch.zeros_like(last_bn), last_bn, keys, causal=True)


def everything(batch: int, queries: int, keys: int, *, device: torch.device | str = "cpu") -> Visible:
    """Let every query see every key, as in a vision transformer."""
    first_bn = torch.zeros(batch, queries, device=device, dtype=torch.int32)
    return Visible(first_bn, torch.full_like(first_bn, keys - 1), keys, everything=True)


def padded(real_bt: Tensor, queries: int | None = None) -> Visible:
    """Causal attention over rows of which some places are padding, at either end.

    Args:
        real_bt: (b, t) 1 or True where a key is real; the real keys of a row lie together.
        queries: The last n places are the queries; all by default.
    """
    batch, keys = real_bt.shape
    queries = keys if queries is None else queries
    real_bt = real_bt.bool()
    first_b = real_bt.int().argmax(dim=1).int()
    end_b = first_b + real_bt.sum(dim=1).int() - 1
    place_n = torch.arange(keys - queries, keys, device=real_bt.device, dtype=torch.int32)
    inside_bn = (place_n >= first_b[:, None]) & (place_n <= end_b[:, None])
    last_bn = torch.where(inside_bn, place_n.expand(batch, queries), -1)
    return Visible(first_b[:, None].expand(batch, queries), last_bn, keys)


def packed(starts_bn: Tensor) -> Visible:
    """Causal attention inside the documents of packed rows.

    Args:
        starts_bn: (b, n) where the document of each place begins.
    """
    last_bn = torch.arange(starts_bn.shape[1], device=starts_bn.device, dtype=torch.int32).expand(starts_bn.shape)
    return Visible(starts_bn.int(), last_bn, starts_bn.shape[1])


def windowed(visible: Visible, size: int) -> Visible:
    """Let every query see at most the last `size` of its keys: sliding windows of local attention."""
    first_bn = torch.maximum(visible.first_bn, visible.last_bn - (size - 1))
    return Visible(first_bn, visible.last_bn, visible.keys)


def from_mask(mask_bnt: Tensor) -> Visible | None:
    """Read the intervals off a mask that is True where a key is visible.

    Returns:
        The intervals, or None where a query's keys have a gap or an end falls from one query to a later one.
    """
    count_bn = mask_bnt.sum(dim=-1, dtype=torch.int32)
    first_bn = mask_bnt.int().argmax(dim=-1).int()
    last_bn = torch.where(count_bn > 0, first_bn + count_bn - 1, -1)
    visible = Visible(first_bn, last_bn, mask_bnt.shape[-1])
    return visible if torch.equal(visible.mask_bnt(), mask_bnt) and _ends_rise(visible) else None


def _ends_rise(visible: Visible) -> bool:
    """Say whether neither end falls among the queries that see something."""
    for row in range(visible.first_bn.shape[0]):
        seen_n = visible.seen_bn[row]
        for end_bn in (visible.first_bn, visible.last_bn):
            if bool((end_bn[row][seen_n].diff() < 0).any()):
                return False
    return True
