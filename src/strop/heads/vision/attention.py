"""One attention layer of a vision transformer with routed heads, whatever its projections are called.

Shapes: b batch rows, n tokens, D model width, h heads, d head width.
"""

from __future__ import annotations

from torch import Tensor, nn

from strop.heads.attention import backend_now, moh_attention
from strop.heads.backends.reference import gated_attention
from strop.heads.balance import inject, load_balance
from strop.heads.routers import FixedRouter, LearnedRouter, QueryNormRouter, make_router
from strop.heads.routing import Routing
from strop.heads.visibility import Visible, everything
from strop.heads.vision.settings import Balance, VisionSettings

Router = LearnedRouter | QueryNormRouter | FixedRouter


def router_of(settings: VisionSettings, layer: int, width: int) -> Router:
    """Make the router of a layer; its weights are zero."""
    return make_router(
        settings.layers[layer], width, router="learned", style=settings.gates, weigh_all=settings.weigh_all
    )


def attend(
    hidden_bnD: Tensor,
    *,
    query: nn.Linear,
    key: nn.Linear,
    value: nn.Linear,
    routing: Routing,
    router: Router,
    scale: float,
    visible: Visible | None = None,
    backend: str = "auto",
) -> Tensor:
    """Attend with the chosen heads and weigh them; (b, n, h d), zero where a head was not chosen.

    Args:
        hidden_bnD: The layer's input, after the pre-norm.
        query: Projection to h d; so `key` and `value`.
        key: See `query`.
        value: See `query`.
        routing: Choice and gates.
        router: Where they came from.
        scale: Of the scores.
        visible: Keys that a token sees; all by default.
        backend: Of `moh_attention`.
    """
    layout = router.layout
    b, n, _ = hidden_bnD.shape
    query_bhnd, key_bhnd, value_bhnd = (
        part(hidden_bnD).view(b, n, layout.query_heads, -1).transpose(1, 2) for part in (query, key, value)
    )
    visible = everything(b, n, n, device=hidden_bnD.device) if visible is None else visible
    if layout.active_heads == layout.query_heads:  # nothing to leave out: packing rows would only cost
        gate_bnh = routing.mask_bnh.to(query_bhnd.dtype) if routing.gate_bnh is None else routing.gate_bnh
        out_bhnd = gated_attention(query_bhnd, key_bhnd, value_bhnd, gate_bnh=gate_bnh, visible=visible, scale=scale)
    else:
        out_bhnd = moh_attention(
            query_bhnd,
            key_bhnd,
            value_bhnd,
            head_mask_bnh=routing.mask_bnh,
            weight_bnh=routing.gate_bnh,
            visible=visible,
            scale=scale,
            backend=backend_now(backend),
        )
    return out_bhnd.transpose(1, 2).reshape(b, n, -1)


def balanced(
    output_bnD: Tensor,
    *,
    routing: Routing,
    router: Router,
    balance: Balance,
    layer: int,
    seen_bn: Tensor | None = None,
    training: bool = False,
) -> Tensor:
    """Note a layer's load-balance value and let its gradient join the task's; the layer's output, unchanged.

    Layers that do not route have no value, in any mode: there is nothing to sum up and nothing to fail on.
    """
    balance.values.pop(layer, None)
    probability, picked, layout = routing.probability_bnce, routing.picked_bnce, router.layout
    if probability is None or picked is None or layout.active == layout.units:
        return output_bnD
    value = load_balance(probability, picked, seen_bn=seen_bn)
    balance.values[layer] = value.detach()
    return inject(output_bnD, value, coefficient=balance.layer_coefficient) if training else output_bnD
