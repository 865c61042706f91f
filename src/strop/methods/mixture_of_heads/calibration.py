"""One pass over training text that measures what each head of a dense model contributes to each token.

A gate of 1 stands on every head's output; the loss's derivative by it says, to first order, how much the loss of the
whole text changes when the head is left out for that token (Michel, Levy and Neubig, 2019, per token). Its size is the
head's contribution, its mean over tokens the head's importance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from strop.errors import UserError
from strop.methods.mixture_of_heads.fitting import LayerSums


@dataclass(frozen=True)
class Calibration:
    """What the pass found.

    Attributes:
        importance: Mean contribution of each head, a row for each layer.
        sums: What a router is fitted to, for each layer.
    """

    importance: tuple[tuple[float, ...], ...]
    sums: tuple[LayerSums, ...]


def calibrate(
    model: Any, blocks: Sequence[Sequence[int]], *, batch: int = 4, advance: Callable[[int], None] = lambda done: None
) -> Calibration:
    """Measure the heads of a dense decoder.

    Args:
        model: A transformers decoder whose layers have `self_attn.o_proj`; its weights stay as they are.
        blocks: Training text, tokens of equal length.
        batch: Blocks at a time.
        advance: Told how many blocks were read.

    Raises:
        UserError: The model's attention is built in another way, or a derivative is not a number.
    """
    layers, heads = attention_layers(model), int(model.config.num_attention_heads)
    totals: list[Tensor] = [torch.zeros(heads, dtype=torch.float64) for _ in layers]
    sums: list[LayerSums | None] = [None] * len(layers)
    wanted = [(weight, weight.requires_grad) for weight in model.parameters()]
    model.requires_grad_(False).eval()
    try:
        for start in range(0, len(blocks), batch):
            ids = torch.tensor([list(block) for block in blocks[start : start + batch]], device=model.device)
            with _gated(layers, heads) as seen:
                logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
                loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")
                loss.backward()
            for number, (hidden, gate) in enumerate(seen):
                contribution_th = gate.grad.abs().flatten(0, 1).double().cpu()
                if not torch.isfinite(contribution_th).all():
                    raise UserError(f"what the heads of layer {number} contribute is not a number", fix="use float32")
                totals[number] += contribution_th.sum(0)
                now = LayerSums.of(hidden.flatten(0, 1).cpu(), contribution_th)
                before = sums[number]
                sums[number] = now if before is None else before.plus(now)
            advance(len(ids))
    finally:
        for weight, learned in wanted:
            weight.requires_grad_(learned)
    made = tuple(one for one in sums if one is not None)
    importance = tuple(tuple((total / one.tokens).tolist()) for total, one in zip(totals, made, strict=True))
    return Calibration(importance, made)


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
def _gated(layers: Sequence[Any], heads: int) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Put a gate of 1 on each head's output; yield each layer's input and gate, filled by the forward pass."""
    seen: list[tuple[Tensor, Tensor]] = []
    inputs: dict[int, Tensor] = {}

    def remember(number: int) -> Callable[..., None]:
        def hook(_module: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
            inputs[number] = (named["hidden_states"] if "hidden_states" in named else positional[0]).detach()

        return hook

    def weigh(number: int) -> Callable[..., tuple[Tensor]]:
        def hook(_module: Any, positional: tuple[Any, ...]) -> tuple[Tensor]:
            output_bnhd = positional[0].unflatten(-1, (heads, -1))
            gate_bnh = torch.ones(output_bnhd.shape[:3], device=output_bnhd.device, requires_grad=True)
            seen.append((inputs[number], gate_bnh))
            return ((output_bnhd * gate_bnh[..., None].to(output_bnhd.dtype)).flatten(-2),)

        return hook

    handles = []
    for number, layer in enumerate(layers):
        handles.append(layer.register_forward_pre_hook(remember(number), with_kwargs=True))
        handles.append(layer.o_proj.register_forward_pre_hook(weigh(number)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
