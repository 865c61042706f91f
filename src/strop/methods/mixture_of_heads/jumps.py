"""The jump of perplexity at step 0: the dense model with some heads left out, under every choice of heads and router.

Nothing is converted for it: gates stand on the heads of the dense model, as in the published code.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from strop.heads.layout import HeadLayout
from strop.heads.routers import LearnedRouter, make_router
from strop.methods.mixture_of_heads.arms import Arm, Importance, layouts
from strop.methods.mixture_of_heads.calibration import attention_layers
from strop.methods.mixture_of_heads.config import Heads
from strop.methods.mixture_of_heads.fitting import LayerSums, fitted_router


@dataclass(frozen=True)
class Variant:
    """One way to begin.

    Attributes:
        name: What a person reads.
        heads: The setting.
        arm: Pruned, or routed.
    """

    name: str
    heads: Heads
    arm: Arm


def variants(heads: Heads, *, query_heads: int, kv_groups: int) -> list[Variant]:
    """Return the ways to begin at a setting's share.

    Pruning by each order, and both routers with each choice of shared heads that the share allows.
    """
    return list(_variants(heads, query_heads=query_heads, kv_groups=kv_groups))


def _variants(heads: Heads, *, query_heads: int, kv_groups: int) -> Iterator[Variant]:
    for by in ("first", "importance"):
        yield Variant(f"pruned: {by}", heads.model_copy(update={"shared_by": by, "shared": 0}), "pruned")
    active = round(heads.active * query_heads)
    step = {"free": 1, "per_group": kv_groups, "groups": query_heads // kv_groups}[heads.choice]
    half = active // 2 // step * step
    for router, start in (("query_norm", "zero"), ("learned", "fitted")):
        routed = heads.model_copy(update={"router": router, "start": start})
        yield Variant(f"{router}: none shared", routed.model_copy(update={"shared": 0}), "moh")
        if not half:
            continue
        for by in ("first", "per_group", "importance"):
            fits = by == "importance" or (by == "first" and step == 1) or (by == "per_group" and half % kv_groups == 0)
            if fits and heads.choice != "groups":
                shared = routed.model_copy(update={"shared": half, "shared_by": by})
                yield Variant(f"{router}: {half} shared, {by}", shared, "moh")


def routers_of(
    heads: Heads, arm: Arm, importance: Importance, sums: Sequence[LayerSums], *, kv_groups: int
) -> tuple[list[HeadLayout], list[nn.Module]]:
    """Return the layout and the router of every layer, learned ones fitted where the setting says so."""
    made = layouts(heads, arm, importance, kv_groups=kv_groups)
    routers: list[nn.Module] = []
    for layout, layer in zip(made, sums, strict=True):
        with warnings.catch_warnings():
            # What a router could learn is of no matter before training.
            warnings.simplefilter("ignore", UserWarning)
            router = make_router(layout, len(layer.gram_DD), router=heads.router, style=heads.gates)
        if isinstance(router, LearnedRouter) and router.routed is not None and heads.start == "fitted":
            router.routed.weight.data.copy_(fitted_router(layer, layout))
        routers.append(router)
    return made, routers


@contextmanager
def gated_heads(model: Any, routers: Sequence[Any]) -> Iterator[None]:
    """Multiply each head's output by its router's gate, token by token, while the block lasts.

    Args:
        model: A dense decoder whose layers have `self_attn.q_proj` and `o_proj`.
        routers: One a layer.
    """
    heads, handles = int(model.config.num_attention_heads), []
    seen: dict[int, Tensor] = {}

    def see_input(number: int) -> Callable[..., None]:
        def hook(_module: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
            seen[number] = named["hidden_states"] if "hidden_states" in named else positional[0]

        return hook

    def see_queries(number: int) -> Callable[..., None]:
        def hook(_module: Any, _arguments: Any, output: Tensor) -> None:
            seen[number] = output.unflatten(-1, (heads, -1))  # type: ignore[no-untyped-call]

        return hook

    def gate(number: int) -> Callable[..., tuple[Tensor]]:
        def hook(_module: Any, positional: tuple[Tensor, ...]) -> tuple[Tensor]:
            routing = routers[number](seen.pop(number))
            gate_bnh = routing.mask_bnh if routing.gate_bnh is None else routing.gate_bnh
            output_bnhd = positional[0].unflatten(-1, (heads, -1))  # type: ignore[no-untyped-call]
            return ((output_bnhd * gate_bnh[..., None].to(output_bnhd.dtype)).flatten(-2),)

        return hook

    try:
        for number, (layer, router) in enumerate(zip(attention_layers(model), routers, strict=True)):
            if router.reads == "query":
                handles.append(layer.q_proj.register_forward_hook(see_queries(number)))
            else:
                handles.append(layer.register_forward_pre_hook(see_input(number), with_kwargs=True))
            handles.append(layer.o_proj.register_forward_pre_hook(gate(number)))
        yield
    finally:
        for handle in handles:
            handle.remove()
