"""One attention layer of a vision transformer with routed heads, whatever its projections are called.

Shapes: b batch rows, n tokens, D model width, h heads, d head width.
"""

from __future__ import annotations

from typing import TypeGuard

from torch import Tensor, nn

from strop.heads.attention import backend_now, moh_attention
from strop.heads.backends.reference import gated_attention
from strop.heads.balance import inject, load_balance
from strop.heads.layout import HeadLayout
from strop.heads.modeling.balance import MoHBalance
from strop.heads.plan import routing_plan
from strop.heads.projections import project_output, project_queries
from strop.heads.routers import FixedRouter, LearnedRouter, QueryNormRouter, make_router
from strop.heads.routing import Routing
from strop.heads.visibility import Visible, everything
from strop.heads.vision.settings import VisionSettings

Router = LearnedRouter | QueryNormRouter | FixedRouter


def router_of(settings: VisionSettings, layer: int, width: int) -> Router:
    """Make the router of a layer; its weights are zero."""
    return make_router(
        settings.layers[layer], width, router="learned", style=settings.gates, weigh_all=settings.weigh_all
    )


def attend(
    hidden_bnD: Tensor,
    *,
    query: nn.Module,
    key: nn.Module,
    value: nn.Module,
    output: nn.Module,
    routing: Routing,
    layout: HeadLayout,
    scale: float,
    visible: Visible | None = None,
    backend: str = "auto",
) -> Tensor:
    """Attend with the chosen heads, weigh them and project; (b, n, D).

    Queries and outputs are projected for the chosen (token, head) pairs only, unless all heads or none are on, the
    backend is the reference, or a projection is more than its weight and bias (an adapter, a quantised weight).

    Args:
        hidden_bnD: The layer's input, after the pre-norm.
        query: Projection to h d; so `key` and `value`.
        key: See `query`.
        value: See `query`.
        output: Projection back to D.
        routing: Choice and gates.
        layout: The layer's heads.
        scale: Of the scores.
        visible: Keys that a token sees; all by default.
        backend: Of `moh_attention`.
    """
    b, n, _ = hidden_bnD.shape

    def split(projection: nn.Module) -> Tensor:
        projected_bnhd: Tensor = projection(hidden_bnD).view(b, n, layout.query_heads, -1)
        return projected_bnhd.transpose(1, 2)

    visible = everything(b, n, n, device=hidden_bnD.device) if visible is None else visible
    key_bhnd, value_bhnd = split(key), split(value)
    if layout.active_heads in (0, layout.query_heads) or backend_now(backend) == "reference":
        gate_bnh = routing.mask_bnh if routing.gate_bnh is None else routing.gate_bnh
        out_bhnd = gated_attention(split(query), key_bhnd, value_bhnd, gate_bnh=gate_bnh, visible=visible, scale=scale)
        dense: Tensor = output(out_bhnd.transpose(1, 2).flatten(2))
        return dense
    plan = routing_plan(
        routing.mask_bnh, groups=layout.kv_groups, visible=visible, rows_per_group=layout.rows_per_group
    )
    if _plain(query):
        query_rd = project_queries(hidden_bnD, query.weight, query.bias, plan, head_width=key_bhnd.shape[-1])
    else:
        query_rd = plan.pack(split(query))
    query_rd = query_rd.to(value_bhnd.dtype)  # under autocast a bias widens what it is added to
    out_rd = moh_attention(query_rd, key_bhnd, value_bhnd, plan=plan, scale=scale, backend=backend)
    if _plain(output):
        return project_output(out_rd, output.weight, output.bias, plan, gate_bnh=routing.gate_bnh)
    if routing.gate_bnh is not None:
        out_rd = out_rd * plan.pack_gate(routing.gate_bnh)[:, None].to(out_rd.dtype)
    scattered: Tensor = output(plan.unpack(out_rd).transpose(1, 2).flatten(2))
    return scattered


def _plain(projection: nn.Module) -> TypeGuard[nn.Linear]:
    return type(projection) is nn.Linear and not (projection._forward_hooks or projection._forward_pre_hooks)


def balanced(
    output_bnD: Tensor, *, routing: Routing, layout: HeadLayout, balance: MoHBalance, layer: int, seen_bn: Tensor | None
) -> Tensor:
    """Note a layer's load-balance value and let its gradient join the task's; the layer's output, unchanged.

    For training passes. Layers that do not route have no value: there is nothing to sum up and nothing to fail on.
    """
    probability, picked = routing.probability_bnce, routing.picked_bnce
    if probability is None or picked is None or layout.active == layout.units:
        return output_bnD
    value = load_balance(probability, picked, seen_bn=seen_bn)
    balance.values[layer] = value.detach()
    return inject(output_bnD, value, coefficient=balance.layer_coefficient)
