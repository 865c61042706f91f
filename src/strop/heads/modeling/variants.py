"""A converted model's weights with other heads for a while, or with the dense model's attention; nothing is copied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from strop.errors import UserError
from strop.heads.layout import HeadLayout
from strop.heads.modeling.attention import MoHAttention
from strop.heads.modeling.families import dense_family
from strop.heads.modeling.refusal import KEY


@contextmanager
def with_layouts(model: Any, layouts: Sequence[HeadLayout]) -> Iterator[None]:
    """Let the layers of a converted model have other heads while the context lasts; learned routers start at zero.

    Args:
        model: A converted model.
        layouts: One for each layer.
    """
    layers = list(model.model.layers)
    before = [layer.self_attn for layer in layers]
    settings = replace(model.moh_settings, layers=tuple(layouts))
    for layer, layout, own in zip(layers, layouts, before, strict=True):
        other = MoHAttention(own, layout, settings, sight=own.sight, balance=own.balance)
        layer.self_attn = other.to(device=own.q_proj.weight.device, dtype=own.q_proj.weight.dtype)
        layer.self_attn.train(own.training)
    try:
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            layer.self_attn = own


def dense_twin(model: Any) -> Any:
    """Return transformers' own model of the same family, on the very weights of a converted one.

    Raises:
        UserError: The dense model has weights that the converted one lacks.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    told = model.config.to_dict()
    family = dense_family(told["model_type"])
    for name in ("model_type", "moh", "architectures", "transformers_version", KEY):
        told.pop(name, None)
    with torch.device("meta"):
        twin = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **told), attn_implementation="sdpa")
    found = twin.load_state_dict(model.state_dict(), strict=False, assign=True)
    if found.missing_keys:
        raise UserError("the model lacks weights of the dense one", value=", ".join(found.missing_keys[:3]))
    _share_buffers(model, twin)
    twin.tie_weights()
    return twin.train(model.training)


def _share_buffers(model: Any, twin: Any) -> None:
    """Give the twin what belongs to no state dict: the frequencies of rotary embeddings, scales of embeddings."""
    for name, module in model.model.named_children():
        if "rotary" in name:
            setattr(twin.model, name, module)
    for name, buffer in model.named_buffers():
        place, _, leaf = name.rpartition(".")
        owner = twin.get_submodule(place) if ".self_attn." not in name else None
        if owner is not None and leaf in owner._buffers and owner._buffers[leaf].is_meta:
            owner._buffers[leaf] = buffer
