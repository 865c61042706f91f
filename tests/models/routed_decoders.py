"""Tiny random decoders of every family that can be converted, and the same weights with routed heads."""

from __future__ import annotations

from typing import Any

import torch

from strop.heads.layout import Choice, HeadLayout

FAMILIES = ("llama", "qwen2", "qwen3", "mistral")
HEADS, GROUPS, LAYERS, VOCABULARY, WINDOW = 8, 2, 3, 101, 12
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": GROUPS,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LAYOUTS: dict[str, tuple[tuple[int, ...], int, Choice]] = {
    "free": ((), 4, "free"),
    "first half": ((0, 1, 2, 3), 2, "free"),
    "per group": ((), 2, "per_group"),
    "one of each group": ((0, 4), 2, "per_group"),
    "groups": ((), 1, "groups"),
    "pruned": ((0, 2, 5), 0, "free"),
}
"""Shared heads, active units, choice."""


def dense_config(family: str, **changed: Any) -> Any:
    """Return the config of a tiny decoder; Mistral's layers see twelve tokens."""
    from transformers import AutoConfig

    window = {"sliding_window": WINDOW} if family == "mistral" else {}
    return AutoConfig.for_model(family, **{**SIZES, **window, **changed})


def dense_decoder(family: str, **changed: Any) -> Any:
    """Return a tiny random decoder; biases are drawn too, where there are some."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(dense_config(family, **changed)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("bias", "q_norm.weight", "k_norm.weight")):
                weight.add_(0.3 * torch.randn_like(weight))
    return model


def routed_decoder(dense: Any, layout: str | HeadLayout, *, draw_router: bool = True, **settings: Any) -> Any:
    """Return the same weights with routed heads; a learned router's weights are drawn, not zero.

    Args:
        dense: Of `dense_decoder`.
        layout: Of every layer; a name of `LAYOUTS`, or one.
        draw_router: Draw the router's weights.
        settings: Of `MoHSettings`.
    """
    from transformers import AutoModelForCausalLM

    from strop.heads.modeling import MoHSettings
    from strop.heads.modeling.families import config_class

    if isinstance(layout, str):
        shared, active, choice = LAYOUTS[layout]
        layout = HeadLayout(query_heads=HEADS, kv_groups=GROUPS, shared=shared, active=active, choice=choice)
    moh = MoHSettings(layers=(layout,) * dense.config.num_hidden_layers, **settings).to_dict()
    told = {key: value for key, value in dense.config.to_dict().items() if key not in ("model_type", "architectures")}
    model = AutoModelForCausalLM.from_config(config_class(dense.config.model_type)(**told, moh=moh)).eval()
    found = model.load_state_dict(dense.state_dict(), strict=False)
    assert not found.unexpected_keys
    assert all(".router." in name for name in found.missing_keys)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".router." in name and draw_router:
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return model


def tokens(rows: int, length: int, *, seed: int = 0) -> torch.Tensor:
    """Draw token ids, none of them special."""
    return torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


def logits(model: Any, ids: torch.Tensor, **named: Any) -> torch.Tensor:
    """Run a model without a cache."""
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=ids, use_cache=False, **named).logits
    return found
