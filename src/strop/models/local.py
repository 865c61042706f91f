"""A causal language model of transformers on this machine: batches sorted by length, samples that stand alone."""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strop.errors import UserError
from strop.models.batching import CACHE_BYTES, Batching, EncodedBatch, quiet_transformers, transformers_errors
from strop.models.protocol import Call, CallFailure, Completion, Outcome, Sampling
from strop.models.render import Chat, read_completion
from strop.models.weights import check_folder, folder_revision
from strop.records.rows import Prompt
from strop.runs.budget import FREE, Price

if TYPE_CHECKING:
    import torch

    from strop.models.decoding import Row, StopStrings


class LocalModel:
    """A model folder, loaded.

    A sample depends on the model, its call and its seed. What else is in its batch changes it only where two tokens
    are tied to the last bits of float32, and batches are cut in a fixed way: see `batching`.
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
        self._device = resolve_device(device)
        self._dtype = resolve_dtype(dtype, device=self._device)
        self.batching = Batching(folder, dtype=self._dtype, chat=chat, batch_size=batch_size, cache_bytes=cache_bytes)
        self.tokenizer, self.context = self.batching.tokenizer, self.batching.context
        self._stop_strings: dict[tuple[str, ...], StopStrings] = {}
        self.model = _load(folder, device=self._device, dtype=self._dtype)

    @property
    def name(self) -> str:
        """What to call the model in a report."""
        return self._name

    @cached_property
    def revision(self) -> str:
        """See `local_revision`."""
        return local_revision(self.folder, dtype=self._dtype, chat=self.chat)

    @property
    def price(self) -> Price | None:
        """Nothing: it runs here."""
        return FREE

    def complete(
        self, calls: Iterable[Call], *, done: Container[int] = frozenset()
    ) -> Iterator[list[tuple[int, Outcome]]]:
        """Yield batches of completions; see `TextModel.complete`."""
        for batch in self.batching.batches(calls, done=done):
            yield list(zip(batch.places, self._complete_batch(batch), strict=True))

    def close(self) -> None:
        """Drop the weights."""
        self.model = None
        if self._device != "cpu":
            import torch

            torch.cuda.empty_cache()

    def _complete_batch(self, batch: EncodedBatch) -> list[Outcome]:
        started = time.monotonic()
        lengths = {prompt: len(tokens) for prompt, tokens in batch.tokens.items()}
        fit = {prompt for prompt, length in lengths.items() if 0 < length < self.context}
        rows = iter(self._decode([call for call in batch.calls if call.prompt in fit], batch.tokens) if fit else ())
        latency = time.monotonic() - started
        return [
            self._completion(call, next(rows), lengths[call.prompt], latency)
            if call.prompt in fit
            else _unfit(lengths[call.prompt], self.context)
            for call in batch.calls
        ]

    def _decode(self, calls: Sequence[Call], tokens: dict[Prompt, list[int]]) -> list[Row]:
        from strop.models.decoding import Row, Sampler, decode, noise_key

        sampling = calls[0].sampling
        order = {prompt: slot for slot, prompt in enumerate(dict.fromkeys(call.prompt for call in calls))}
        rows = [
            Row(
                order[call.prompt],
                noise_key(call),
                min(sampling.max_tokens, self.context - len(tokens[call.prompt])),
            )
            for call in calls
        ]
        decode(
            self.model,
            [tokens[prompt] for prompt in order],
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


def _unfit(length: int, context: int) -> CallFailure:
    if length == 0:
        return CallFailure("empty_prompt", "the prompt has no tokens", transient=False)
    return CallFailure(
        "context", f"the prompt has {length} tokens and the model takes {context}, answer included", transient=False
    )


def local_revision(folder: Path, *, dtype: str, chat: Chat) -> str:
    """Return the hash of the folder's files, with what else changes an answer: dtype and chat where not the usual."""
    unusual = [value for value, usual in ((dtype, "float32"), (f"chat-{chat}", "chat-auto")) if value != usual]
    return "+".join([folder_revision(folder), *unusual])


def resolve_dtype(dtype: str, *, device: str) -> str:
    """Return the type of the weights in memory: ``auto`` is float32 on a CPU and bfloat16 elsewhere."""
    if dtype != "auto":
        return dtype
    return "float32" if device == "cpu" else "bfloat16"


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


def _load(folder: Path, *, device: str, dtype: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    weights: torch.dtype = getattr(torch, dtype)
    offline: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with quiet_transformers(), transformers_errors(folder):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=weights, use_safetensors=True, **offline)
    return model.to(device).eval()
