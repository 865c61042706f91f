"""Two passes over training text that measure what each head of a dense model adds to each token, and what that matters.

A head's contribution to a token is the norm of what it adds to the layer's output, its own part of the output
projection included, over the mean of that norm, times the head's importance: the mean size of the loss's derivative by
a gate on the head (`strop.heads.importance`). The norms tell tokens apart, the importances heads; SmolLM2 with 7 of 9
heads keeps more of its perplexity by the product than by either (`docs/mixture_of_heads.md`).

Shapes: b batch rows, n tokens, h query heads, d head width, D model width, t all tokens of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from strop.errors import UserError
from strop.heads.importance import gradient_importance
from strop.methods.mixture_of_heads.fitting import LayerSums

TINY = 1e-12
"""Mean norm below which a head gives nothing."""


@dataclass(frozen=True)
class Calibration:
    """What the pass found.

    Attributes:
        importance: Of each head, a row for each layer: its mean contribution.
        sums: What a router is fitted to, for each layer.
    """

    importance: tuple[tuple[float, ...], ...]
    sums: tuple[LayerSums, ...]


def output_norms(output_tq: Tensor, weight_Dq: Tensor, *, heads: int) -> Tensor:
    """Return the norm of what each head adds to each token, (t, h).

    Args:
        output_tq: What the heads give, side by side.
        weight_Dq: The output projection.
        heads: How many; |W o| is taken as sqrt(o' W'W o), with d x d numbers a head in place of D x d.
    """
    width = output_tq.shape[1] // heads
    output_thd = output_tq.float().reshape(-1, heads, width)
    weight_Dhd = weight_Dq.float().reshape(-1, heads, width)
    gram_hde = torch.einsum("Dhd,Dhe->hde", weight_Dhd, weight_Dhd)
    square_th = torch.einsum("thd,hde,the->th", output_thd, gram_hde, output_thd)
    return square_th.clamp(min=0.0).sqrt()


def calibrate(
    model: Any, blocks: Sequence[Sequence[int]], *, batch: int = 4, advance: Callable[[int], None] = lambda done: None
) -> Calibration:
    """Measure the heads of a dense decoder.

    Args:
        model: A transformers decoder whose layers have `self_attn.o_proj`.
        blocks: Training text, tokens of equal length.
        batch: Blocks at a time.
        advance: Told how many blocks were read.

    Raises:
        UserError: The model's attention is built in another way, or a contribution is not a number.
    """
    layers, heads = attention_layers(model), int(model.config.num_attention_heads)
    norms: list[Tensor] = [torch.zeros(heads, dtype=torch.float64) for _ in layers]
    matters = torch.zeros(len(layers), heads, dtype=torch.float64)
    sums: list[LayerSums] = []
    for start in range(0, len(blocks), batch):
        ids = torch.tensor([list(block) for block in blocks[start : start + batch]], device=model.device)
        matters += gradient_importance(model, [{"input_ids": ids}]) * len(ids)
        with torch.no_grad(), _seen(layers) as seen:
            model(input_ids=ids, use_cache=False, logits_to_keep=1)
        for number, (hidden_tD, output_tq) in enumerate(seen):
            norm_th = output_norms(output_tq, layers[number].o_proj.weight, heads=heads).double().cpu()
            if not torch.isfinite(norm_th).all():
                raise UserError(f"what the heads of layer {number} give is not a number", fix="use float32")
            norms[number] += norm_th.sum(0)
            now = LayerSums.of(hidden_tD.cpu(), norm_th)
            if start == 0:
                sums.append(now)
            else:
                sums[number] = sums[number].plus(now)
        advance(len(ids))
    importance = matters / len(blocks)
    weighed = [
        replace(one, cross_Dh=one.cross_Dh * (head / (norm / one.tokens).clamp(min=TINY)))
        for one, norm, head in zip(sums, norms, importance, strict=True)
    ]
    return Calibration(tuple(tuple(layer) for layer in importance.tolist()), tuple(weighed))


def attention_layers(model: Any) -> list[Any]:
    """Return the attention modules of a decoder, the first layer first.

    Raises:
        UserError: It has none of the expected shape.
    """
    layers = getattr(model.get_decoder(), "layers", None) or ()
    found = [getattr(layer, "self_attn", None) for layer in layers]
    if not found or any(getattr(one, "o_proj", None) is None for one in found):
        raise UserError(
            "the heads of this model cannot be told apart",
            value=type(model).__name__,
            why="its layers have no self_attn.o_proj",
            fix="take a decoder of the Llama, Qwen or Mistral kind",
        )
    return found


@contextmanager
def _seen(layers: Sequence[Any]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Yield each layer's input and what its heads gave, a row for each token, once a forward pass has filled them."""
    seen: list[tuple[Tensor, Tensor]] = []
    inputs: dict[int, Tensor] = {}

    def remember(number: int) -> Callable[..., None]:
        def hook(_module: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
            hidden: Tensor = named["hidden_states"] if "hidden_states" in named else positional[0]
            inputs[number] = hidden.flatten(0, 1)

        return hook

    def take(number: int) -> Callable[..., None]:
        def hook(_module: Any, positional: tuple[Tensor, ...]) -> None:
            seen.append((inputs.pop(number), positional[0].flatten(0, 1)))

        return hook

    handles = []
    for number, layer in enumerate(layers):
        handles.append(layer.register_forward_pre_hook(remember(number), with_kwargs=True))
        handles.append(layer.o_proj.register_forward_pre_hook(take(number)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
