"""How a local model's calls become batches. The tokenizer and the configuration decide that; weights are not needed.

Batches are cut from windows of the calls in a fixed way, whoever computes them and whatever is done already, so that a
continued run, and one whose batches go to several workers, computes the very batches of an unbroken one.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import strop.heads  # noqa: F401  # a folder may hold a model with routed heads: transformers must know its type
from strop.errors import UserError
from strop.models.protocol import Call
from strop.models.render import Chat, encode_prompts
from strop.records.rows import Prompt

CACHE_BYTES = 1 << 30
"""Memory that the keys and values of one batch may take."""
UNLIMITED_CONTEXT = 1 << 30
WINDOW = 8192
"""Calls that batches are cut from at a time."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Calls that are computed together.

    Attributes:
        places: Their indices among all calls.
        calls: The calls.
    """

    places: list[int]
    calls: list[Call]


@dataclass(frozen=True, slots=True)
class EncodedBatch(Batch):
    """Calls of one sampling but for the seed, the one with the longest prompt first.

    Attributes:
        tokens: Their prompts, encoded.
    """

    tokens: dict[Prompt, list[int]]


class Batching:
    """Cuts calls into batches: same sampling but for the seed, the longest first, samples of a prompt together."""

    def __init__(
        self, folder: Path, *, dtype: str, chat: Chat, batch_size: int = 256, cache_bytes: int = CACHE_BYTES
    ) -> None:
        """Load tokenizer and configuration.

        Args:
            folder: The model's.
            dtype: Of the keys and values of a batch: ``float32``, ``bfloat16`` or ``float16``.
            chat: See `ModelSpec`.
            batch_size: Most completions at a time.
            cache_bytes: Memory that the keys and values of a batch may take; it limits a batch of long prompts.

        Raises:
            UserError: transformers cannot read them.
        """
        self._dtype, self._chat = dtype, chat
        self._batch_size, self._cache_bytes = batch_size, cache_bytes
        self.tokenizer, self._config = _load(folder)

    @cached_property
    def context(self) -> int:
        """Most tokens that prompt and completion may have together."""
        return int(getattr(self._config, "max_position_embeddings", None) or UNLIMITED_CONTEXT)

    def batches(self, calls: Iterable[Call], *, done: Container[int] = frozenset()) -> Iterator[EncodedBatch]:
        """Yield the batches of all calls, window by window; a batch of nothing but `done` ones is left out."""
        stream, first = iter(calls), 0
        while window := list(islice(stream, WINDOW)):
            tokens = self._encode(window)
            for indices in self._cut(window, tokens):
                places = [first + index for index in indices]
                if not all(place in done for place in places):
                    members = [window[index] for index in indices]
                    yield EncodedBatch(places, members, {call.prompt: tokens[call.prompt] for call in members})
            first += len(window)

    def _encode(self, calls: Sequence[Call]) -> dict[Prompt, list[int]]:
        unique = list(dict.fromkeys(call.prompt for call in calls))
        return dict(zip(unique, encode_prompts(self.tokenizer, unique, chat=self._chat), strict=True))

    def _cut(self, calls: Sequence[Call], tokens: dict[Prompt, list[int]]) -> list[list[int]]:
        first = {prompt: order for order, prompt in enumerate(tokens)}
        drawn = [replace(call.sampling, seed=0) for call in calls]  # a call's noise is its own, whatever its seed
        samplings = {sampling: order for order, sampling in enumerate(dict.fromkeys(drawn))}

        def place(index: int) -> tuple[int, int, int, int]:
            call = calls[index]
            return samplings[drawn[index]], -len(tokens[call.prompt]), first[call.prompt], index

        batches: list[list[int]] = []
        longest = 0
        for index in sorted(range(len(calls)), key=place):
            call = calls[index]
            opened = bool(batches) and drawn[batches[-1][0]] == drawn[index]
            if not opened or len(batches[-1]) >= min(self._batch_size, max(1, self._token_budget // longest)):
                batches.append([])
                # The first of a batch is the longest, so that it sets the length of all.
                longest = min(len(tokens[call.prompt]) + call.sampling.max_tokens, self.context)
            batches[-1].append(index)
        return batches

    @cached_property
    def _token_budget(self) -> int:
        import torch

        config = self._config
        heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        kept = getattr(config, "num_key_value_heads", None) or heads
        itemsize = getattr(torch, self._dtype).itemsize
        return self._cache_bytes // int(2 * config.num_hidden_layers * kept * width * itemsize)


def chunks(calls: Iterable[Call], size: int, *, done: Container[int] = frozenset()) -> Iterator[Batch]:
    """Yield the calls that are not `done`, in order, about `size` at a time; samples of a prompt stay together."""
    batch = Batch([], [])
    for place, call in enumerate(calls):
        if place not in done:
            if len(batch.calls) >= size and call.prompt != batch.calls[-1].prompt:
                yield batch
                batch = Batch([], [])
            batch.places.append(place)
            batch.calls.append(call)
    if batch.calls:
        yield batch


def _load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoTokenizer

    offline: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with quiet_transformers(), transformers_errors(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, **offline)
        return tokenizer, AutoConfig.from_pretrained(folder, **offline).get_text_config()


@contextmanager
def transformers_errors(folder: Path) -> Iterator[None]:
    """Tell of a folder that transformers cannot load as a user's error."""
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        raise UserError("transformers cannot load this model", value=str(folder), why=str(error)) from error


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep the progress bars of transformers out of ours."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
