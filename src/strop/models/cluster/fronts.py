"""What a process knows of a model that others have open: its identity, and how its calls become batches."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from strop.errors import UserError
from strop.models.batching import Batch, Batching, chunks
from strop.models.local import local_revision, resolve_device, resolve_dtype
from strop.models.opening import model_folder, open_model
from strop.models.protocol import Call
from strop.models.spec import ModelSpec
from strop.models.weights import check_folder
from strop.runs.budget import FREE, Price

WITH_WEIGHTS = ("local", "builtin", "hf")
ROUNDS_PER_BATCH = 2
"""A client of a server is handed so many rounds of requests at a time: what one that dies loses is asked again."""


class Front(Protocol):
    """What can be said of a model without its weights."""

    name: str
    revision: str
    price: Price | None

    def batches(self, calls: Iterable[Call], *, done: Container[int]) -> Iterator[Batch]:
        """Cut calls into the batches that are computed together; see `Batching.batches`."""


class WeightsFront:
    """A model of transformers; the batches are those of `LocalModel`."""

    def __init__(self, spec: ModelSpec) -> None:
        """Load tokenizer and configuration; device and dtype of `spec` are settled.

        Raises:
            UserError: The folder is not a whole model, or transformers cannot read it.
        """
        folder = model_folder(spec)
        check_folder(folder)
        self.name = Path(spec.target).name if spec.kind == "local" else spec.model
        self.revision = local_revision(folder, dtype=spec.dtype, chat=spec.chat)
        self.price: Price | None = FREE
        self._batching = Batching(folder, dtype=spec.dtype, chat=spec.chat, batch_size=spec.batch_size)

    def batches(self, calls: Iterable[Call], *, done: Container[int]) -> Iterator[Batch]:
        """Cut by length."""
        return self._batching.batches(calls, done=done)


class ClientFront:
    """A model whose calls are independent: an endpoint, a script, an engine that batches by itself."""

    def __init__(self, *, name: str, revision: str, price: Price | None, per_batch: int) -> None:
        """Take what the model says of itself, and how many calls to hand out together."""
        self.name, self.revision, self.price = name, revision, price
        self._per_batch = per_batch

    def batches(self, calls: Iterable[Call], *, done: Container[int]) -> Iterator[Batch]:
        """Cut in order."""
        return chunks(calls, self._per_batch, done=done)


def open_front(spec: ModelSpec) -> Front:
    """Return the front of a model whose specification is settled.

    Raises:
        UserError: As `open_model`, as far as that shows without weights.
    """
    if spec.kind in WITH_WEIGHTS:
        return WeightsFront(spec)
    if spec.kind == "vllm":
        revision = spec.model if spec.chat == "auto" else f"{spec.model}+chat-{spec.chat}"
        return ClientFront(name=spec.model, revision=revision, price=FREE, per_batch=1)
    model = open_model(spec)
    model.close()
    per_batch = ROUNDS_PER_BATCH * spec.max_concurrency * (1 + len(spec.replicas))
    return ClientFront(name=model.name, revision=model.revision, price=model.price, per_batch=per_batch)


def settled(spec: ModelSpec, *, device: str, dtype: str) -> ModelSpec:
    """Return `spec` with nothing left open that another process might decide otherwise: device, dtype, paths.

    Args:
        spec: Which model.
        device: Where `spec` leaves it open; ``auto`` looks for a GPU in this process.
        dtype: Where `spec` leaves it open.

    Raises:
        UserError: One GPU of many is named; whoever starts the other processes deals them out.
    """
    if spec.kind == "scripted":
        return replace(spec, target=str(Path(spec.target).absolute()))
    if spec.kind not in WITH_WEIGHTS:
        return spec
    wanted = device if spec.device == "auto" else spec.device
    if wanted.startswith("cuda:"):
        raise UserError("Ray chooses the GPU of each worker", value=wanted, fix="device: cuda")
    on = resolve_device("auto") if wanted == "auto" else wanted
    target = str(Path(spec.target).absolute()) if spec.kind == "local" else spec.target
    given = dtype if spec.dtype == "auto" else spec.dtype
    return replace(spec, target=target, device=on, dtype=resolve_dtype(given, device=on))
