"""The attention layer of a converted decoder: the dense layer's projections, a router, and only the chosen heads.

Shapes: b batch rows, n queries, t keys, h query heads, g KV heads, d head width, D model width, r rows of the plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from strop.errors import UserError
from strop.heads.attention import backend_now, moh_attention, with_gradient
from strop.heads.backends.reference import dense_attention
from strop.heads.balance import inject, load_balance
from strop.heads.choosing import attention_backend, decoding_backend
from strop.heads.decoding import moh_decode
from strop.heads.layout import HeadLayout
from strop.heads.modeling.balance import MoHBalance
from strop.heads.modeling.rotation import rotation_of
from strop.heads.modeling.settings import MoHSettings
from strop.heads.modeling.sight import Seen, Sight
from strop.heads.plan import RoutingPlan, routing_plan
from strop.heads.projections import project_output, project_queries, token_output, token_queries
from strop.heads.routers import make_router
from strop.heads.routing import Routing

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True)
class _Layer:
    """What a pass through one layer has made before it attends.

    Attributes:
        key_bgtd: Keys, rotated.
        value_bgtd: Values.
        seen: Which keys each token sees.
        cos_bnd: The places' cosine.
        sin_bnd: The places' sine.
        query_bh1d: Of one new token: the queries of at least its chosen heads, rotated.
        dense_query: (b, n, h d), all query projections, not rotated, where the router reads them.
    """

    key_bgtd: Tensor
    value_bgtd: Tensor
    seen: Seen
    cos_bnd: Tensor
    sin_bnd: Tensor
    query_bh1d: Tensor | None
    dense_query: Tensor | None


class MoHAttention(nn.Module):
    """Attention in which each token uses the heads that its router chooses.

    Takes over the dense layer's projections under their own names, so a converted model's weights have the dense
    model's names; a learned router adds ``router.*``. Keys and values are those of the dense layer, so caches are too.
    """

    q_proj: nn.Linear
    k_proj: nn.Linear
    v_proj: nn.Linear
    o_proj: nn.Linear
    q_norm: nn.Module | None
    k_norm: nn.Module | None
    layer_idx: int
    head_dim: int

    def __init__(
        self, dense: nn.Module, layout: HeadLayout, settings: MoHSettings, *, sight: Sight, balance: MoHBalance
    ) -> None:
        """Replace a dense attention layer of transformers.

        Args:
            dense: Has q_proj, k_proj, v_proj, o_proj, `head_dim`, `scaling`, `layer_idx`; perhaps q_norm and k_norm,
                which normalise each head (Qwen3) or all heads of a token together (OLMo 2).
            layout: The layer's heads.
            settings: How they are chosen and weighed.
            sight: Shared by the layers of the model.
            balance: Shared by the layers of the model.

        Raises:
            UserError: The layer's projections are others, or do not fit the layout.
        """
        super().__init__()
        require_layout(dense, layout)
        for name in (*PROJECTIONS, "q_norm", "k_norm"):
            setattr(self, name, getattr(dense, name, None))
        self.layer_idx, self.head_dim = int(dense.layer_idx), int(dense.head_dim)  # type: ignore[arg-type]
        self.scaling = float(dense.scaling)  # type: ignore[arg-type]
        self.rotation = rotation_of(dense)
        self.layout, self.settings = layout, settings
        self.sight, self.balance = sight, balance
        self.router = make_router(
            layout,
            self.q_proj.in_features,
            router=settings.router,
            style=settings.gates,
            straight_through=settings.straight_through != "off",
        )

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        attention_mask: Tensor | None = None,
        cache: Any | None = None,
        past_key_values: Any | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        """Attend; called by transformers' decoder layer in place of the dense layer.

        Args:
            hidden_states: (b, n, D), after the pre-norm.
            position_embeddings: Cosine and sine of each place, (b or 1, n, d).
            attention_mask: See `Sight.of`.
            cache: Of transformers, dynamic or static.
            past_key_values: The same under its older name.
            kwargs: What else transformers passes; not used.

        Returns:
            (b, n, D), and None: there are no attention weights.
        """
        if position_embeddings is None:
            raise UserError("a converted layer needs its places", fix="call the whole model, not one layer of it")
        cache = past_key_values if cache is None else cache
        b, n, _ = hidden_states.shape
        cos_bnd, sin_bnd = position_embeddings
        dense_query = self.q_proj(hidden_states) if self.router.reads == "query" else None
        routing: Routing = self.router(
            hidden_states if dense_query is None else dense_query.view(b, n, -1, self.head_dim),
            backend=self.settings.backend,
        )
        key_bgtd = self._heads(self.k_proj(hidden_states), self.k_norm)
        query_bh1d = self._token_queries(hidden_states, dense_query, routing) if n == 1 else None
        if query_bh1d is None:
            key_bgtd = self.rotation(key_bgtd, cos_bnd, sin_bnd)
        else:
            query_bh1d, key_bgtd = self.rotation.both(query_bh1d, key_bgtd, cos_bnd, sin_bnd)
        value_bgtd = self.v_proj(hidden_states).view(b, n, -1, self.head_dim).transpose(1, 2)
        if cache is not None:
            key_bgtd, value_bgtd = cache.update(key_bgtd, value_bgtd, self.layer_idx, kwargs=kwargs)
        seen = self.sight.of(attention_mask, batch=b, queries=n, keys=key_bgtd.shape[2], device=hidden_states.device)
        places = cos_bnd.expand(b, -1, -1), sin_bnd.expand(b, -1, -1)
        layer = _Layer(key_bgtd, value_bgtd, seen, *places, query_bh1d, dense_query)
        backend = self._backend(hidden_states, routing, layer)
        if backend == "reference":
            output = self._all_heads(hidden_states, routing, layer)
        elif query_bh1d is not None:
            output = self._one_token(query_bh1d, routing, layer, backend=backend)
        else:
            output = self._chosen_heads(hidden_states, routing, layer, backend=backend)
        return self._balanced(output, routing, seen), None

    def _backend(self, hidden_bnD: Tensor, routing: Routing, layer: _Layer) -> str:
        """Name the way to attend; ``reference`` where only all heads are right, or where a token has no choice."""
        layout, settings = self.layout, self.settings
        named = backend_now(settings.backend)
        if layer.seen.visible is None or layout.active_heads == layout.query_heads or named == "reference":
            return "reference"
        if self._learns_from_all(routing):
            return "reference"
        b, n, _ = hidden_bnD.shape
        training = with_gradient(hidden_bnD, self.q_proj.weight)
        if layer.query_bh1d is not None:
            # On an accelerator a token's heads save nothing but reads, and a group is read for any of its heads.
            idle = layout.choice == "groups" or layout.heads_per_group == 1 or hidden_bnD.device.type == "cpu"
            if training or not idle:
                return "reference"
            if named != "auto":
                return named
            return decoding_backend(layer.query_bh1d, layer.value_bgtd, share=layout.active_share)
        if named != "auto":
            return named
        return attention_backend(
            layer.value_bgtd,
            batch=b,
            queries=n,
            keys=layer.key_bgtd.shape[2],
            heads=layout.query_heads,
            groups=layout.kv_groups,
            rows=b * n * layout.active_heads,
            training=training,
            layer=self.router.reads == "hidden",
        )

    def _learns_from_all(self, routing: Routing) -> bool:
        """Say whether the gradient needs what heads give that were not chosen."""
        exact = self.settings.router == "query_norm" and self.settings.straight_through == "exact"
        return exact and routing.gate_bnh is not None and torch.is_grad_enabled()

    def _all_heads(self, hidden_bnD: Tensor, routing: Routing, layer: _Layer) -> Tensor:
        query_bhnd = layer.query_bh1d
        if query_bhnd is None:
            projected = self.q_proj(hidden_bnD) if layer.dense_query is None else layer.dense_query
            query_bhnd = self.rotation(self._heads(projected, self.q_norm), layer.cos_bnd, layer.sin_bnd)
        out_bhnd = self._attend_all(query_bhnd, layer)
        gate_bnh = routing.mask_bnh if routing.gate_bnh is None else routing.gate_bnh
        if routing.gate_bnh is not None and not self._learns_from_all(routing):
            # Gates that were not chosen are zero but may have a gradient, which no other backend gives.
            gate_bnh = gate_bnh.masked_fill(~routing.mask_bnh, 0.0)
        out_bnhd = out_bhnd.transpose(1, 2) * gate_bnh[..., None].to(out_bhnd.dtype)
        output: Tensor = self.o_proj(out_bnhd.flatten(2))
        return output

    def _token_queries(self, hidden_b1D: Tensor, dense_query: Tensor | None, routing: Routing) -> Tensor:
        """Return the queries of one new token, not rotated; weights that only other heads need are not read."""
        if dense_query is None and (self._joint(self.q_norm) or not _plain(self.q_proj)):
            dense_query = self.q_proj(hidden_b1D)
        if dense_query is None:
            dense_query = token_queries(
                hidden_b1D,
                self.q_proj.weight,
                self.q_proj.bias,
                head_mask_bnh=routing.mask_bnh,
                backend=self.settings.backend,
            )
        return self._heads(dense_query, self.q_norm)

    def _one_token(self, query_bh1d: Tensor, routing: Routing, layer: _Layer, *, backend: str) -> Tensor:
        """Attend from one token behind a cache; KV groups of which no head was chosen are not read."""
        kind = layer.value_bgtd.dtype
        out_bh1d = moh_decode(
            query_bh1d.to(kind),
            layer.key_bgtd.to(kind),
            layer.value_bgtd,
            head_mask_bnh=routing.mask_bnh,
            gate_bnh=routing.gate_bnh,
            visible=layer.seen.visible,
            scale=self.scaling,
            backend=backend,
        )
        out_b1q = out_bh1d.transpose(1, 2).flatten(2)
        if _plain(self.o_proj):
            return token_output(
                out_b1q, self.o_proj.weight, self.o_proj.bias, head_mask_bnh=routing.mask_bnh, backend=backend
            )
        output: Tensor = self.o_proj(out_b1q)
        return output

    def _attend_all(self, query_bhnd: Tensor, layer: _Layer) -> Tensor:
        if layer.seen.visible is not None:
            return dense_attention(
                query_bhnd, layer.key_bgtd, layer.value_bgtd, visible=layer.seen.visible, scale=self.scaling
            )
        assert layer.seen.mask_b1nt is not None
        blind_b1n1 = ~layer.seen.mask_b1nt.any(-1, keepdim=True)
        # A query that sees nothing sees everything until its output is zeroed: its softmax would be NaN, and its
        # gradient too.
        out_bhnd = scaled_dot_product_attention(
            query_bhnd,
            layer.key_bgtd,
            layer.value_bgtd,
            attn_mask=layer.seen.mask_b1nt | blind_b1n1,
            scale=self.scaling,
            enable_gqa=self.layout.heads_per_group > 1,
        )
        return out_bhnd.masked_fill(blind_b1n1, 0.0)

    def _chosen_heads(self, hidden_bnD: Tensor, routing: Routing, layer: _Layer, *, backend: str) -> Tensor:
        assert layer.seen.visible is not None
        plan = routing_plan(
            routing.mask_bnh,
            groups=self.layout.kv_groups,
            visible=layer.seen.visible,
            rows_per_group=self.layout.rows_per_group,
            heads_per_token=self.layout.active_heads,
        )
        query_rd = self._chosen_queries(hidden_bnD, layer.dense_query, plan, backend=backend)
        place_2rd = (each.flatten(0, 1).index_select(0, plan.token_r) for each in (layer.cos_bnd, layer.sin_bnd))
        query_rd = self.rotation(query_rd[None, None], *(each[None] for each in place_2rd))[0, 0]
        kind = layer.value_bgtd.dtype  # rotation widens queries and keys under autocast
        out_rd = moh_attention(
            query_rd.to(kind),
            layer.key_bgtd.to(kind),
            layer.value_bgtd,
            plan=plan,
            scale=self.scaling,
            backend=backend,
        )
        if _plain(self.o_proj):
            return project_output(
                out_rd, self.o_proj.weight, self.o_proj.bias, plan, gate_bnh=routing.gate_bnh, backend=backend
            )
        if routing.gate_bnh is not None:
            out_rd = out_rd * plan.pack_gate(routing.gate_bnh)[:, None].to(out_rd.dtype)
        output: Tensor = self.o_proj(plan.unpack(out_rd).transpose(1, 2).flatten(2))
        return output

    def _chosen_queries(
        self, hidden_bnD: Tensor, dense_query: Tensor | None, plan: RoutingPlan, *, backend: str
    ) -> Tensor:
        if self._joint(self.q_norm):
            return plan.pack(self._heads(self.q_proj(hidden_bnD) if dense_query is None else dense_query, self.q_norm))
        if dense_query is None and _plain(self.q_proj):
            query_rd = project_queries(
                hidden_bnD, self.q_proj.weight, self.q_proj.bias, plan, head_width=self.head_dim, backend=backend
            )
        else:
            query_rd = plan.pack(self._heads(self.q_proj(hidden_bnD) if dense_query is None else dense_query, None))
        return query_rd if self.q_norm is None else self.q_norm(query_rd)

    def _balanced(self, output: Tensor, routing: Routing, seen: Seen) -> Tensor:
        """Note the layer's balance in training, and let its gradient join the task's."""
        if not self.training or routing.probability_bnce is None or routing.picked_bnce is None:
            return output
        value = load_balance(routing.probability_bnce, routing.picked_bnce, seen_bn=seen.real_bn)
        self.balance.values[self.layer_idx] = value.detach()
        return inject(output, value, coefficient=self.balance.layer_coefficient)

    def _heads(self, projected_bnq: Tensor, norm: nn.Module | None) -> Tensor:
        """Split into heads and normalise where the model does; (b, heads, n, d)."""
        if norm is not None and self._joint(norm):
            projected_bnq, norm = norm(projected_bnq), None
        split_bnhd = projected_bnq.view(*projected_bnq.shape[:2], -1, self.head_dim)
        return (split_bnhd if norm is None else norm(split_bnhd)).transpose(1, 2)

    def _joint(self, norm: nn.Module | None) -> bool:
        """Say whether a norm is over all heads of a token: then one head's query needs the others'."""
        weight = getattr(norm, "weight", None)
        return weight is not None and weight.shape[-1] != self.head_dim


def require_layout(dense: nn.Module, layout: HeadLayout) -> None:
    """Refuse a dense layer that is not laid out as this module needs.

    Raises:
        UserError: A projection is missing or no linear layer, or the widths do not fit the layout's heads.
    """
    missing = [name for name in PROJECTIONS if not isinstance(getattr(dense, name, None), nn.Linear)]
    if missing or not all(hasattr(dense, name) for name in ("head_dim", "scaling", "layer_idx")):
        raise UserError(
            "this attention is not laid out as known",
            value=type(dense).__name__,
            why=f"no linear layer {', '.join(missing)}" if missing else "it does not tell its head width or scaling",
            fix="convert a decoder with q_proj, k_proj, v_proj and o_proj, as Llama, Qwen2, Qwen3 or Mistral",
        )
    width = int(dense.head_dim)  # type: ignore[arg-type]
    wanted = {"q_proj": layout.query_heads, "k_proj": layout.kv_groups, "v_proj": layout.kv_groups}
    found = {name: getattr(dense, name).out_features for name in wanted}
    found["o_proj"] = dense.o_proj.in_features  # type: ignore[union-attr]
    for name, heads in {**wanted, "o_proj": layout.query_heads}.items():
        if found[name] != heads * width:
            raise UserError(
                f"{name} does not fit the heads of the layout",
                value=f"{found[name]} features for {heads} heads of width {width}",
                fix="give a layout with the model's own head counts",
            )


def _plain(projection: nn.Module) -> bool:
    """Say whether a projection is its weight and bias and nothing else: no adapter, no quantised weight, no hook."""
    return type(projection) is nn.Linear and not (projection._forward_hooks or projection._forward_pre_hooks)
