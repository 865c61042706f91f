"""A causal language model of transformers on this machine: batches sorted by length, samples that stand alone."""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strop.errors import UserError
from strop.models.protocol import Call, CallFailure, Completion, Outcome, Sampling
from strop.models.render import Chat, encode_prompts, read_completion
from strop.models.weights import check_folder, folder_revision
from strop.records.rows import Prompt
from strop.runs.budget import FREE, Price

if TYPE_CHECKING:
    import torch

    from strop.models.decoding import Row, StopStrings

CACHE_BYTES = 1 << 30
"""Memory that the keys and values of one batch may take."""
UNLIMITED_CONTEXT = 1 << 30
WINDOW = 8192
"""Calls that batches are cut from at a time."""


class LocalModel:
    """A model folder, loaded.

    A sample depends on the model, its call and its seed. What else is in its batch changes it only where two tokens
    are tied to the last bits of float32; batches are therefore cut from windows of the calls in a fixed way, and a
    continued run computes the very batches of an unbroken one.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        chat: Chat = "auto",
        batch_size: int = 256,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        """Load the model.

        Args:
            folder: Holds config, tokenizer and safetensors weights.
            name: What to call the model in reports; the folder's name where None.
            device: See `ModelSpec`.
            dtype: See `ModelSpec`.
            chat: See `ModelSpec`.
            batch_size: Most completions at a time.
            cache_bytes: Memory that the keys and values of a batch may take; it limits a batch of long prompts.

        Raises:
            UserError: The folder is not a whole model, or there is no such device.
        """
        check_folder(folder)
        self.folder, self.chat = folder, chat
        self._name = name or folder.name
        self._device, self._dtype = resolve_device(device), dtype
        if dtype == "auto":
            self._dtype = "float32" if self._device == "cpu" else "bfloat16"
        self._batch_size, self._cache_bytes = batch_size, cache_bytes
        self._stop_strings: dict[tuple[str, ...], StopStrings] = {}
        self.tokenizer, self.model = _load(folder, device=self._device, dtype=self._dtype)

    @property
    def name(self) -> str:
        """What to call the model in a report."""
        return self._name

    @cached_property
    def revision(self) -> str:
        """The hash of the folder's files, with what else changes an answer: dtype and chat where not the usual."""
        unusual = [
            value for value, usual in ((self._dtype, "float32"), (f"chat-{self.chat}", "chat-auto")) if value != usual
        ]
        return "+".join([folder_revision(self.folder), *unusual])

    def plan(self, calls: Sequence[Call]) -> list[list[int]]:
        """Cut `calls` into batches: same sampling, near in length, the longest first, samples of a prompt together."""
        prompts = self._encode(calls)
        return [batch for batch in self._batches(calls, prompts) if batch]

    @property
    def price(self) -> Price | None:
        """Nothing: it runs here."""
        return FREE

    def complete(
        self, calls: Iterable[Call], *, done: Container[int] = frozenset()
    ) -> Iterator[list[tuple[int, Outcome]]]:
        """Yield batches of completions; see `TextModel.complete`. Batches are cut from windows of `WINDOW` calls."""
        stream, first = iter(calls), 0
        while window := list(islice(stream, WINDOW)):
            prompts = self._encode(window)
            for batch in self._batches(window, prompts):
                if not all(first + index in done for index in batch):
                    outcomes = self._complete_batch(window, batch, prompts)
                    yield [(first + index, outcome) for index, outcome in outcomes]
            first += len(window)

    def close(self) -> None:
        """Drop the weights."""
        self.model = None
        if self._device != "cpu":
            import torch

            torch.cuda.empty_cache()

    def _encode(self, calls: Sequence[Call]) -> dict[Prompt, list[int]]:
        unique = list(dict.fromkeys(call.prompt for call in calls))
        return dict(zip(unique, encode_prompts(self.tokenizer, unique, chat=self.chat), strict=True))

    def _batches(self, calls: Sequence[Call], prompts: dict[Prompt, list[int]]) -> list[list[int]]:
        first = {prompt: order for order, prompt in enumerate(prompts)}
        samplings = {sampling: order for order, sampling in enumerate(dict.fromkeys(call.sampling for call in calls))}

        def place(index: int) -> tuple[int, int, int, int]:
            call = calls[index]
            return samplings[call.sampling], -len(prompts[call.prompt]), first[call.prompt], index

        batches: list[list[int]] = []
        longest = 0
        for index in sorted(range(len(calls)), key=place):
            call = calls[index]
            opened = bool(batches) and calls[batches[-1][0]].sampling == call.sampling
            if not opened or len(batches[-1]) >= min(self._batch_size, max(1, self._token_budget // longest)):
                batches.append([])
                # The first of a batch is the longest, so that it sets the length of all.
                longest = min(len(prompts[call.prompt]) + call.sampling.max_tokens, self.context)
            batches[-1].append(index)
        return batches

    def _complete_batch(
        self, calls: Sequence[Call], batch: list[int], prompts: dict[Prompt, list[int]]
    ) -> list[tuple[int, Outcome]]:
        started = time.monotonic()
        outcomes: dict[int, Outcome] = {}
        for index in batch:
            length = len(prompts[calls[index].prompt])
            if not 0 < length < self.context:
                outcomes[index] = _unfit(length, self.context)
        fit = [index for index in batch if index not in outcomes]
        if fit:
            rows = self._decode([calls[index] for index in fit], prompts)
            latency = time.monotonic() - started
            for index, row in zip(fit, rows, strict=True):
                outcomes[index] = self._completion(calls[index], row, len(prompts[calls[index].prompt]), latency)
        return [(index, outcomes[index]) for index in batch]

    def _decode(self, calls: Sequence[Call], prompts: dict[Prompt, list[int]]) -> list[Row]:
        from strop.models.decoding import Row, Sampler, decode, noise_key

        sampling = calls[0].sampling
        order = {prompt: slot for slot, prompt in enumerate(dict.fromkeys(call.prompt for call in calls))}
        rows = [
            Row(
                order[call.prompt],
                noise_key(call),
                min(sampling.max_tokens, self.context - len(prompts[call.prompt])),
            )
            for call in calls
        ]
        decode(
            self.model,
            [prompts[prompt] for prompt in order],
            rows,
            sampler=Sampler(sampling),
            ends=self._ends(sampling),
            stops=self._stops(sampling),
            pad=self._pad,
        )
        return rows

    def _completion(self, call: Call, row: Row, prompt_tokens: int, latency: float) -> Completion:
        from strop.models.decoding import decode_text

        text = self._stops(call.sampling).cut(decode_text(self.tokenizer, row.tokens))
        return Completion(
            text=read_completion(text, call.prompt, chat=self.chat),
            prompt_tokens=prompt_tokens,
            completion_tokens=len(row.tokens),
            finish="stop" if row.stopped else "length",
            latency_s=latency,
        )

    def _stops(self, sampling: Sampling) -> StopStrings:
        from strop.models.decoding import StopStrings

        if sampling.stop not in self._stop_strings:
            pieces = self._pieces if sampling.stop else ()
            self._stop_strings[sampling.stop] = StopStrings(self.tokenizer, sampling.stop, pieces)
        return self._stop_strings[sampling.stop]

    def _ends(self, sampling: Sampling) -> set[int]:
        """Tokens that end a completion: the model's, the tokenizer's, and stop strings that are special tokens."""
        declared = self.model.generation_config.eos_token_id
        ends = set(declared if isinstance(declared, list) else [declared]) | {self.tokenizer.eos_token_id}
        special = self.tokenizer.all_special_tokens
        ends |= {self.tokenizer.convert_tokens_to_ids(stop) for stop in sampling.stop if stop in special}
        return ends - {None}

    @cached_property
    def _pieces(self) -> list[str]:
        from strop.models.decoding import vocabulary_pieces

        return vocabulary_pieces(self.tokenizer)

    @cached_property
    def _pad(self) -> int:
        pad = self.tokenizer.pad_token_id
        return int(pad) if pad is not None else 0

    @cached_property
    def context(self) -> int:
        """Most tokens that prompt and completion may have together."""
        return int(getattr(self.model.config, "max_position_embeddings", None) or UNLIMITED_CONTEXT)

    @cached_property
    def _token_budget(self) -> int:
        config = self.model.config
        heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        kept = getattr(config, "num_key_value_heads", None) or heads
        return self._cache_bytes // int(2 * config.num_hidden_layers * kept * width * self.model.dtype.itemsize)


def _unfit(length: int, context: int) -> CallFailure:
    if length == 0:
        return CallFailure("empty_prompt", "the prompt has no tokens", transient=False)
    return CallFailure(
        "context", f"the prompt has {length} tokens and the model takes {context}, answer included", transient=False
    )


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


def resolve_device(device: str) -> str:
    """Return the torch device that `device` means: ``auto`` is the first GPU, or the CPU where there is none.

    Raises:
        UserError: There is no such device.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            "no such device",
            value=device,
            why=str(error).splitlines()[0],
            alternatives=["auto", "cpu", "cuda", "cuda:N"],
        ) from None
    return device


def _load(folder: Path, *, device: str, dtype: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    weights: torch.dtype = getattr(torch, dtype)
    offline: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(folder, **offline)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=weights, use_safetensors=True, **offline)
    except (OSError, ValueError, KeyError) as error:
        raise UserError("transformers cannot load this model", value=str(folder), why=str(error)) from error
    return tokenizer, model.to(device).eval()
