"""A converted model and the dense one that it was made from, and the calls that a profile times."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from strop.errors import UserError
from strop.heads.attention import using
from strop.heads.ceiling import DecoderShape
from strop.heads.layout import HeadLayout
from strop.heads.modeling.variants import dense_twin
from strop.runs import derive_seed

Step = Literal["layer", "prefill", "train", "decode"]
STEPS: tuple[Step, ...] = get_args(Step)
"""An attention layer with its projections, a prompt, forward and backward, one token behind a cache."""
MARK = "moh_"
"""What a converted model's type begins with; the rest is the type of the model that it was made from."""


@dataclass(frozen=True)
class Profiled:
    """Both models, which share their weights.

    Attributes:
        moh: The converted model.
        dense: The original class with the same weights.
        shape: Its sizes.
        layouts: Heads of each layer.
        router: ``learned`` or ``query_norm``.
        device: Where both are.
        seed: Of tokens and caches.
    """

    moh: Any
    dense: Any
    shape: DecoderShape
    layouts: list[HeadLayout]
    router: str
    device: str
    seed: int

    @property
    def routed_layer(self) -> int:
        """The first layer in which a token leaves heads out."""
        return next((index for index, layout in enumerate(self.layouts) if layout.active_share < 1.0), 0)

    @property
    def number_bytes(self) -> int:
        """Bytes of a weight."""
        return int(next(iter(self.dense.parameters())).element_size())

    def tokens(self, length: int, batch: int) -> Tensor:
        """Return random token ids; (b, n)."""
        source = torch.Generator().manual_seed(derive_seed(self.seed, "heads", "tokens", length))
        return torch.randint(self.shape.vocabulary, (batch, length), generator=source).to(self.device)


class _Reached(Exception):
    """The layer whose inputs are wanted was called."""


def open_profiled(folder: Path, *, lengths: Sequence[int], device: str = "cpu", seed: int = 0) -> Profiled:
    """Load a converted model, and beside it the dense model with the same weights.

    Raises:
        UserError: The folder holds a dense model or none, or a length does not fit its context.
    """
    values = _read_config(folder)
    _check_lengths(lengths, context=values.get("max_position_embeddings"))
    layouts = [
        HeadLayout(
            query_heads=values["num_attention_heads"],
            kv_groups=values.get("num_key_value_heads") or values["num_attention_heads"],
            shared=tuple(layer["shared"]),
            active=layer["active"],
            choice=layer.get("choice", "free"),
        )
        for layer in values["moh"]["layers"]
    ]
    moh = _load(folder).to(device)
    return Profiled(
        moh=moh,
        dense=dense_twin(moh),
        shape=DecoderShape.of(values),
        layouts=layouts,
        router=values["moh"].get("router", "learned"),
        device=device,
        seed=seed,
    )


def ways_of(
    opened: Profiled, step: Step, length: int, batch: int, names: Mapping[str, str | None]
) -> dict[str, Callable[[], None]]:
    """Return the calls of a step by name: None for the dense model, else a backend of the converted one."""
    make = {"layer": _layer, "prefill": _prefill, "train": _train, "decode": _decode}[step]
    ways = {}
    for name, backend in names.items():
        model = opened.dense if backend is None else opened.moh
        ways[name] = _by(backend, make(opened, model, opened.tokens(length, batch)))
    return ways


def _by(backend: str | None, call: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        with nullcontext() if backend is None else using(backend):
            call()

    return run


def _layer(opened: Profiled, model: Any, tokens_bn: Tensor) -> Callable[[], None]:
    layer = _attention_layers(model)[opened.routed_layer]
    model.eval()
    arguments, named = _inputs_of(layer, model, tokens_bn)

    def call() -> None:
        with torch.inference_mode():
            layer(*arguments, **named)

    return call


def _prefill(opened: Profiled, model: Any, tokens_bn: Tensor) -> Callable[[], None]:
    def call() -> None:
        model.eval()
        with torch.inference_mode():
            model(input_ids=tokens_bn, use_cache=False, logits_to_keep=1)

    return call


def _train(opened: Profiled, model: Any, tokens_bn: Tensor) -> Callable[[], None]:
    def call() -> None:
        model.train()
        model(input_ids=tokens_bn, labels=tokens_bn, use_cache=False).loss.backward()
        model.zero_grad(set_to_none=True)

    return call


def _decode(opened: Profiled, model: Any, tokens_bn: Tensor) -> Callable[[], None]:
    """One token behind a cache of random keys and values: what they are changes no time, and no prompt is read."""
    batch, length = tokens_bn.shape
    cache = _filled_cache(opened, batch=batch, cached=length - 1)
    token_b1 = tokens_bn[:, -1:]

    def call() -> None:
        model.eval()
        with torch.inference_mode():
            model(input_ids=token_b1, past_key_values=cache, use_cache=True)
            cache.crop(-1)

    return call


def _filled_cache(opened: Profiled, *, batch: int, cached: int) -> Any:
    from transformers import DynamicCache

    shape, cache = opened.shape, DynamicCache(config=opened.dense.config)
    dtype = next(iter(opened.dense.parameters())).dtype
    source = torch.Generator().manual_seed(derive_seed(opened.seed, "heads", "cache", cached))
    size = (batch, shape.kv_groups, cached, shape.head_width)
    for layer in range(shape.layers):
        key, value = (torch.randn(size, generator=source).to(opened.device, dtype) for _ in range(2))
        cache.update(key, value, layer)
    return cache


def _inputs_of(layer: nn.Module, model: Any, tokens_bn: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what the model calls `layer` with; nothing after that layer is run."""
    found: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def keep(_module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        found.append((arguments, named))
        raise _Reached

    handle = layer.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        with torch.inference_mode():
            model(input_ids=tokens_bn, use_cache=False, logits_to_keep=1)
    except _Reached:
        pass
    finally:
        handle.remove()
    return found[0]


def _attention_layers(model: nn.Module) -> list[nn.Module]:
    return [module for name, module in model.named_modules() if name.endswith(".self_attn")]


def _load(folder: Path) -> Any:
    import transformers

    import strop.heads  # noqa: F401  # makes the converted types known to transformers

    return transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa")


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise UserError("there is no model in this folder", value=folder, fix="give the folder of a converted model")
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if not str(values.get("model_type", "")).startswith(MARK) or "moh" not in values:
        raise UserError(
            "this model was not converted: all of its heads run for every token",
            value=f"{folder}, model_type {values.get('model_type')}",
            fix=f"convert it first: strop heads convert {folder} --active 0.75 --out DIR",
        )
    return values


def _check_lengths(lengths: Sequence[int], *, context: int | None) -> None:
    if not lengths:
        raise UserError("there must be at least one length", fix="for example --lengths 512,2048")
    for length in lengths:
        if length < 2:
            raise UserError("a length must be at least 2: a token, and one behind it", value=length)
        if context is not None and length > context:
            raise UserError(
                "this length exceeds the context of the model",
                value=f"{length:,} of {context:,} tokens",
                fix=f"give lengths up to {context}",
            )
