"""Converted models for the mixture-of-head benchmark: SmolLM2-135M, and a random Llama with 4 query heads a group."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

VOCABULARY, CONTEXT = 49152, 8192


def converted_models(scratch: Path) -> Iterator[tuple[str, Path]]:
    """Write each and yield its name and folder: per-group choice at two shares."""
    for name, source in (("SmolLM2-135M", smollm2()), ("Llama, 4 a group", grouped_llama(scratch / "llama"))):
        heads, groups = heads_of(source)
        members = heads // groups
        for active in (members - 1, members // 2) if members > 2 else (1,):
            folder = scratch / f"{source.name}-{active}"
            convert_per_group(source, folder, active=active)
            yield f"{name} {active / members:.0%}", folder


def smollm2() -> Path:
    """Return the folder of the built-in model."""
    from strop.models.builtin import builtin_folder

    return builtin_folder("smollm2-135m")


def grouped_llama(folder: Path) -> Path:
    """Write a random Llama: 8 layers of width 1,024, 16 query heads of 64 in 4 groups."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=8,
        num_attention_heads=16,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def heads_of(source: Path) -> tuple[int, int]:
    """Return query heads and KV groups of a model."""
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(source)
    return config.num_attention_heads, config.num_key_value_heads


def convert_per_group(source: Path, folder: Path, *, active: int) -> None:
    """Convert with `active` heads of every KV group, and routers whose weights are drawn, as after training."""
    from transformers import AutoConfig

    from strop.heads.conversion import convert
    from strop.heads.layout import HeadLayout
    from strop.heads.modeling.settings import MoHSettings

    heads, groups = heads_of(source)
    layout = HeadLayout(query_heads=heads, kv_groups=groups, shared=(), active=active, choice="per_group")
    layers = AutoConfig.from_pretrained(source).num_hidden_layers
    fresh = folder.with_name(f"{folder.name}-fresh")
    convert(source, MoHSettings(layers=(layout,) * layers), fresh)
    draw_routers(fresh, folder)


def draw_routers(fresh: Path, folder: Path) -> None:
    """Give the routers of a converted model random weights: fresh ones choose the same heads for every token."""
    from transformers import AutoModelForCausalLM

    import strop.heads  # noqa: F401  # makes the converted types known to transformers

    model = AutoModelForCausalLM.from_pretrained(fresh)
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".router." in name:
                weight.copy_(torch.randn(weight.shape, generator=source) / weight.shape[-1] ** 0.5)
    model.save_pretrained(folder)
