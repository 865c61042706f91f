"""From a dense model to an arm: layouts by importance, the converted folder, and a router that starts from a fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file

from strop.heads.conversion import ROUTERS, convert
from strop.heads.layout import HeadLayout
from strop.heads.modeling import MoHSettings
from strop.methods.mixture_of_heads.arms import Arm, Importance, layouts
from strop.methods.mixture_of_heads.config import Heads
from strop.methods.mixture_of_heads.fitting import LayerSums, fitted_router

ROUTED = "model.layers.{layer}.self_attn.router.routed.weight"


def convert_arm(
    source: Path,
    *,
    heads: Heads,
    arm: Arm,
    importance: Importance,
    sums: Sequence[LayerSums],
    beta: float,
    out: Path,
) -> list[HeadLayout]:
    """Write a model folder whose layers use the heads of an arm, and return their layouts.

    Args:
        source: Folder of the dense model.
        heads: The setting.
        arm: MoH, or static pruning to its share.
        importance: What each head of each layer matters.
        sums: What routers are fitted to, a layer each; read where the setting says `start: fitted`.
        beta: Weight of the load-balance term in training, kept with the model.
        out: Folder to write.
    """
    told = json.loads((source / "config.json").read_text(encoding="utf-8"))
    kv_groups = told.get("num_key_value_heads") or told["num_attention_heads"]
    made = layouts(heads, arm, importance, kv_groups=kv_groups)
    settings = MoHSettings(
        layers=tuple(made),
        router=heads.router,
        gates=heads.gates,
        straight_through=heads.straight_through,
        backend=heads.backend,
        balance=beta,
    )
    convert(source, settings, out)
    if arm == "moh" and heads.router == "learned" and heads.start == "fitted":
        _fit_routers(out, made, sums)
    return made


def _fit_routers(folder: Path, made: list[HeadLayout], sums: Sequence[LayerSums]) -> None:
    """Put fitted weights in place of the routers' zeros."""
    weights = load_file(folder / ROUTERS)
    for number, (layout, layer) in enumerate(zip(made, sums, strict=True)):
        name = ROUTED.format(layer=number)
        if name in weights:
            weights[name] = fitted_router(layer, layout).to(weights[name].dtype)
    save_file(weights, folder / ROUTERS, metadata={"format": "pt"})
