"""How much each head of a loaded decoder matters, from one pass over calibration texts.

Two measures: the gradient of a gate on each head's output (Michel, Levy and Neubig 2019, section 4.1), in one forward
and backward pass; and leaving each head out in turn, which costs a forward pass for each head.

Works on decoders whose layers are ``model.layers[i].self_attn`` with an output projection ``o_proj`` that takes the
heads' outputs side by side: Llama, Mistral, Qwen2, Qwen3, SmolLM2 and their like. No part of the model is changed.

Shapes: l layers, b texts, n tokens, h query heads, d head width, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from strop.errors import UserError
from strop.heads.gates import routing_type

Batch = Mapping[str, Tensor]
"""``input_ids`` (b, n) and, where given, ``attention_mask`` (0 at padding) and ``labels`` (-100 where not scored)."""

Unit = Literal["token", "text"]
"""Whose gate: one for each token, as a router sees heads (ours), or one for the whole text (Michel et al.)."""


def gradient_importance(
    model: nn.Module, batches: Iterable[Batch], *, unit: Unit = "token", squared: bool = False
) -> Tensor:
    """Measure heads by the gradient of the loss with respect to a gate on each head's output, at 1.

    ``|dL/dg|`` or its square, summed over tokens or texts, over the number of tokens scored; L is the summed loss of
    the next tokens. It is the first-order estimate of what leaving the head out changes, without its sign.

    Args:
        model: A causal decoder of transformers; may be frozen.
        batches: Calibration texts.
        unit: Whose gate.
        squared: Square instead of absolute value.

    Returns:
        (layers, heads), float64, on the CPU; 0 or more.

    Raises:
        UserError: An unknown layout of attention, texts without a token to score, or a loss that is not finite.
    """
    layers = attention_layers(model)
    total, scored = torch.zeros(len(layers), query_heads(model), dtype=torch.float64), 0
    with _evaluating(model):
        for batch in batches:
            with torch.enable_grad(), ExitStack() as hooks:
                gates_bnh = [hooks.enter_context(_gated(layer, batch, heads=total.shape[1])) for layer in layers]
                loss, count = _summed_loss(model, batch)
                gradients = torch.autograd.grad(loss, gates_bnh)
            gradient_lbnh = torch.stack([gradient_bnh.double().cpu() for gradient_bnh in gradients])
            if unit == "text":
                gradient_lbnh = gradient_lbnh.sum(2, keepdim=True)
            total += (gradient_lbnh.square() if squared else gradient_lbnh.abs()).sum((1, 2))
            scored += count
    return total / _some(scored)


def leave_one_out_importance(
    model: nn.Module,
    batches: Sequence[Batch],
    *,
    on_layer: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Measure heads by how much the mean loss rises when the head's output is zero.

    Costs layers x heads + 1 forward passes over the texts.

    Args:
        model: A causal decoder of transformers.
        batches: Calibration texts.
        on_layer: Told the number of layers done and of all layers, after each.

    Returns:
        (layers, heads), float64, nats per token; below 0 where the texts are better predicted without the head.

    Raises:
        UserError: As `gradient_importance`.
    """
    layers, heads = attention_layers(model), query_heads(model)
    rise = torch.zeros(len(layers), heads, dtype=torch.float64)
    with _evaluating(model), torch.no_grad():
        whole = _mean_loss(model, batches)
        for place, layer in enumerate(layers):
            for head in range(heads):
                with _without(layer, head, heads=heads):
                    rise[place, head] = _mean_loss(model, batches) - whole
            if on_layer is not None:
                on_layer(place + 1, len(layers))
    return rise


def attention_layers(model: nn.Module) -> list[nn.Module]:
    """Return the output projection of every attention layer, in order.

    Raises:
        UserError: The decoder has another layout.
    """
    decoder: Any = getattr(model, "model", model)
    found: list[Any] = [
        getattr(getattr(layer, "self_attn", None), "o_proj", None) for layer in getattr(decoder, "layers", [])
    ]
    if not found or any(not isinstance(projection, nn.Module) for projection in found):
        raise UserError(
            "the heads of this model cannot be found",
            value=type(model).__name__,
            why="its attention is not model.layers[i].self_attn.o_proj",
            fix="use a decoder of that layout: Llama, Mistral, Qwen2, Qwen3, SmolLM2",
        )
    return found


def query_heads(model: nn.Module) -> int:
    """Return the number of query heads of each layer, from the model's config."""
    config: Any = getattr(model, "config", None)
    heads = getattr(config, "num_attention_heads", None)
    if not isinstance(heads, int):
        raise UserError(
            "the model's config names no single number of heads",
            value=heads,
            fix="use a decoder whose layers all have num_attention_heads heads",
        )
    return heads


@contextmanager
def _gated(projection: nn.Module, batch: Batch, *, heads: int) -> Iterator[Tensor]:
    """Multiply what the heads give by gates of 1 while the context lasts, and hand the gates out."""
    ids = batch["input_ids"]
    gate_bnh = torch.ones(*ids.shape, heads, device=ids.device, requires_grad=True)

    def multiply(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        output_bnhd = arguments[0].unflatten(-1, (heads, -1))  # type: ignore[no-untyped-call]
        gated = output_bnhd * gate_bnh.to(output_bnhd)[..., None]
        return (gated.flatten(-2), *arguments[1:])

    handle = projection.register_forward_pre_hook(multiply)
    try:
        yield gate_bnh
    finally:
        handle.remove()


@contextmanager
def _without(projection: nn.Module, head: int, *, heads: int) -> Iterator[None]:
    """Set one head's output to zero while the context lasts."""

    def silence(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        output = arguments[0].clone()
        width = output.shape[-1] // heads
        output[..., head * width : (head + 1) * width] = 0.0
        return (output, *arguments[1:])

    handle = projection.register_forward_pre_hook(silence)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _summed_loss(model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
    """Sum the loss of the next tokens, and count them; padding and unscored labels are left out."""
    ids, mask = batch["input_ids"], batch.get("attention_mask")
    labels = batch.get("labels", ids)
    if mask is not None:
        labels = labels.masked_fill(mask == 0, -100)
        labels = labels.clone()
        labels[:, 1:] = labels[:, 1:].masked_fill(mask[:, :-1] == 0, -100)  # a text's first token has nothing before it
    logits_bnv = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    targets = labels[:, 1:].reshape(-1)
    logits_bnv = logits_bnv[:, :-1].to(routing_type(logits_bnv))
    loss = cross_entropy(logits_bnv.flatten(0, 1), targets, reduction="sum", ignore_index=-100)
    if not bool(loss.detach().isfinite()):
        raise UserError(
            "the loss on the calibration texts is not finite",
            value=loss.item(),
            fix="load the model in bfloat16 or float32, and check the texts' token numbers",
        )
    return loss, int((targets != -100).sum())


def _mean_loss(model: nn.Module, batches: Sequence[Batch]) -> float:
    found = [_summed_loss(model, batch) for batch in batches]
    return sum(loss.item() for loss, _ in found) / _some(sum(count for _, count in found))


def _some(scored: int) -> int:
    if scored == 0:
        raise UserError("the calibration texts hold no token to score", fix="give texts of at least two tokens")
    return scored
