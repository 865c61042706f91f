"""A tiny random Llama and the same with routed heads, for tests of what works on converted models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def tiny_llama(folder: Path) -> Any:
    """Write it and return it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    model.save_pretrained(folder)
    return model


def converted_llama(folder: Path, **settings: Any) -> Path:
    """Write the same model with two of four heads a token, freely chosen by a learned router, and return the folder."""
    from strop.heads.layout import HeadLayout
    from strop.heads.modeling.families import config_class, model_class
    from strop.heads.modeling.settings import MoHSettings

    layout = HeadLayout(query_heads=4, kv_groups=2, shared=(), active=2)
    config = config_class("llama")(**SIZES, moh=MoHSettings(layers=(layout, layout), **settings).to_dict())
    model: Any = model_class("llama")(config)
    model.load_state_dict(tiny_llama(folder).state_dict(), strict=False)
    model.save_pretrained(folder)
    return folder
