"""Room to write in the key-value cache: a step of decoding appends to it instead of copying all of it."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

STEP = 32
"""Tokens of room at the end of a new storage, and the least by which a full one grows."""


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """A `DynamicLayer` with room at its end.

    `DynamicLayer` concatenates at every token, which copies the whole cache: two thirds of the time of decoding a small
    model on a CPU. Here `keys` and `values` are views of a storage that is longer than they are.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Start empty."""
        super().__init__(*args, **kwargs)
        self._storage: list[torch.Tensor] = []
        self._length = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append states, each ``[batch, heads, tokens, width]``, and return all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self._length = self._length, self._length + key_states.shape[-2]
        if not self._storage or self._length > self._storage[0].shape[-2]:
            self._grow(start, (key_states, value_states))
        for storage, states in zip(self._storage, (key_states, value_states), strict=True):
            storage[:, :, start : self._length] = states
        self._view()
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep (or repeat) the given rows of the batch."""
        self._storage = [storage[indices] for storage in self._storage]
        self._view()

    def _grow(self, kept: int, states: tuple[torch.Tensor, torch.Tensor]) -> None:
        capacity = self._length + max(STEP, self._length // 4)
        grown = [like.new_empty(*like.shape[:2], capacity, like.shape[-1]) for like in states]
        for old, new in zip(self._storage, grown, strict=False):
            new[:, :, :kept] = old[:, :, :kept]
        self._storage = grown

    def _view(self) -> None:
        if self._storage:
            self.keys, self.values = (storage[:, :, : self._length] for storage in self._storage)


def growing_cache(config: Any) -> DynamicCache:
    """Return an empty cache for a model of this config; layers of other kinds than the usual one stay as they are."""
    cache = DynamicCache(config=config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
