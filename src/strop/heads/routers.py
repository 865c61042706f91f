"""The routers of a layer: learned from its input, by the norm of the queries, or fixed.

Each gives a `Routing` for the tokens that it is shown; a token's choice depends on nothing but that token.

Shapes: b batch rows, n queries, h query heads, g KV groups, d head width, D model width, e units among which one choice
is made, c choices of a token (1, or one for each KV group with routed heads), u = c e routed units in all.
"""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from functools import lru_cache
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from strop.errors import UserError
from strop.heads.attention import backend_now
from strop.heads.backends import native_routing
from strop.heads.gates import (
    STYLES,
    Style,
    norm_score,
    refuse_bad_scores,
    routing_type,
    softmax,
    straight_through,
    top_k,
    two_stage_gates,
)
from strop.heads.layout import HeadLayout
from strop.heads.routing import Routing

RouterKind = Literal["learned", "query_norm"]
"""Weights on the layer's input (ViT, DiT, models from scratch), or the norms of the queries (LLaMA3-8B)."""

ROUTERS: tuple[RouterKind, ...] = get_args(RouterKind)

INPUT_SCORES, QUERY_NORMS = "the router's scores of its input", "the norms of its queries"


class HeadScores(nn.Module):
    """One logit for each of some units, without bias; zero at first, so that an untrained router prefers nothing.

    No `nn.Linear`: quantisers, adapters and a model's own initialisation must leave the router's weights alone.
    """

    def __init__(self, units: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(units, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the weights to zero."""
        nn.init.zeros_(self.weight)


class LearnedRouter(nn.Module):
    """Score heads from the layer's input and weigh them in two stages (MoH section 3.2).

    Parameters: ``shared.weight`` (shared heads, D) where two or more heads are shared, ``routed.weight`` (u, D) with
    the units in order of their heads, and ``stage.weight`` (2, D) where there are shared and routed heads.

    Where every head is shared the layer is weighted full attention, as the full layers of the released DiT.
    """

    reads: Literal["hidden", "query"] = "hidden"

    def __init__(self, layout: HeadLayout, width: int, *, style: Style = "released") -> None:
        """Lay out the weights.

        Args:
            layout: The layer's heads.
            width: Of the layer's input, D.
            style: Whose gates.

        Raises:
            UserError: An unknown style, no active routed unit, or a single head that is shared.

        Warns:
            UserWarning: One unit is picked and its gate renormalised to 1: the task gives the router no gradient.
        """
        super().__init__()
        if style not in STYLES:
            raise UserError("there is no such style of gates", value=style, alternatives=STYLES)
        _check_choice(layout)
        if len(layout.shared) == layout.query_heads == 1:
            raise UserError("a single head that is always on has nothing to weigh", fix="use the fixed router")
        if style == "released" and layout.active == 1 < layout.units:
            warnings.warn(
                f"a token picks one of {layout.units} {layout.unit_name}, and the released gates weigh it 1 whatever "
                "its score: the task gives the weights of this choice no gradient. Pick two or more, use the paper's "
                "gates, or route by query norm with straight-through gradients.",
                stacklevel=2,
            )
        self.layout, self.style, self.width = layout, style, width
        shared, units = len(layout.shared), layout.units * layout.choices
        self.shared = HeadScores(shared, width) if shared > 1 else None
        self.routed = HeadScores(units, width) if units else None
        self.stage = HeadScores(2, width) if shared and units else None

    def forward(self, hidden_bnD: Tensor, *, backend: str = "auto") -> Routing:
        """Route the tokens of one layer by its input (after the pre-norm).

        Args:
            hidden_bnD: The layer's input.
            backend: Of attention; ``native`` also routes at once where nothing is learned.
        """
        layout = self.layout
        score_bnw, sizes = self._scores(hidden_bnD)
        watched = self.training or torch.is_grad_enabled()
        if self.routed is not None and not watched and _at_once(score_bnw, backend):
            return native_routing.route(
                score_bnw, layout, style=self.style, shared_scores=sizes[0], stages=sizes[2], what=INPUT_SCORES
            )
        refuse_bad_scores(score_bnw, what=INPUT_SCORES)
        parts = torch.split(score_bnw, sizes, dim=-1)
        shared_bns, routed_bnu, stage_bn2 = (part if size else None for part, size in zip(parts, sizes, strict=True))
        if routed_bnu is None:
            gate_bnh, _ = two_stage_gates(shared_bns, None, None, None, style=self.style)
            return Routing(mask_bnh=_constant_mask(layout, hidden_bnD), gate_bnh=gate_bnh)
        routed_bnce = _by_choice(layout, routed_bnu)
        picked_bnce = top_k(routed_bnce, layout.active)
        shared_gate, routed_gate = two_stage_gates(shared_bns, routed_bnce, stage_bn2, picked_bnce, style=self.style)
        return Routing(
            mask_bnh=_spread_mask(layout, picked_bnce),
            gate_bnh=_spread(layout, shared_gate, routed_gate),
            probability_bnce=softmax(routed_bnce) if watched else None,
            picked_bnce=picked_bnce,
        )

    def _scores(self, hidden_bnD: Tensor) -> tuple[Tensor, list[int]]:
        """Score shared heads, units and stages in one product, and say how many of each there are.

        Reading the input is most of what a router computes.
        """
        scores = (self.shared, self.routed, self.stage)
        weights: list[Tensor] = [each.weight for each in scores if each is not None]
        weight_wD = weights[0] if len(weights) == 1 else torch.cat(weights)
        dtype, kind = routing_type(hidden_bnD), hidden_bnD.device.type
        # Autocast would round the scores to bfloat16. Switching it off takes longer than scoring one token.
        exact = torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
        with exact:
            score_bnw = linear(hidden_bnD.to(dtype), weight_wD.to(dtype))
        return score_bnw, [0 if each is None else each.weight.shape[0] for each in scores]


class QueryNormRouter(nn.Module):
    """Pick the heads whose queries are longest; gates are 0 and 1 (MoH section 4.4, released LLaMA code).

    No parameters. Queries are taken before rotary embedding, and before a per-head normalisation where the model has
    one: after it all are equally long. A KV group's score, where groups are chosen, is the norm of all its queries
    together (ours).

    Training: with `straight_through` the gates of routed heads carry the gradient of the norms' softmax.
    """

    reads: Literal["hidden", "query"] = "query"

    def __init__(self, layout: HeadLayout, *, straight_through: bool = True) -> None:
        """Take the layer's heads.

        Args:
            layout: The layer's heads.
            straight_through: Let the task's gradient reach the queries through the scores.

        Raises:
            UserError: No active routed unit.
        """
        super().__init__()
        _check_choice(layout)
        if not layout.routed:
            raise UserError("every head is always on: there is nothing to route", fix="use the fixed router")
        self.layout, self.straight_through = layout, straight_through

    def forward(self, query_bnhd: Tensor, *, backend: str = "auto") -> Routing:
        """Route the tokens of one layer by its query projections.

        Args:
            query_bnhd: The projections.
            backend: Of attention; ``native`` also routes at once where nothing is learned.
        """
        layout = self.layout
        norm_bnu = self._norms(query_bnhd)
        gated = self.straight_through and norm_bnu.requires_grad
        if not (gated or self.training) and _at_once(norm_bnu, backend):
            return native_routing.route(norm_bnu, layout, style=None, what=QUERY_NORMS)
        refuse_bad_scores(norm_bnu, what=QUERY_NORMS)
        norm_bnce = _by_choice(layout, norm_bnu)
        picked_bnce = top_k(norm_bnce, layout.active)
        score_bnce = norm_score(norm_bnce) if gated or self.training else None
        gate_bnh = None
        if gated and score_bnce is not None:
            ones_bns = score_bnce.new_ones(1).expand(*score_bnce.shape[:2], len(layout.shared))
            gate_bnh = _spread(layout, ones_bns, straight_through(picked_bnce, score_bnce))
        return Routing(
            mask_bnh=_spread_mask(layout, picked_bnce),
            gate_bnh=gate_bnh,
            probability_bnce=score_bnce,
            picked_bnce=picked_bnce,
        )

    def _norms(self, query_bnhd: Tensor) -> Tensor:
        """Return the norms of the routed units, in float32 from the first square on: 6,000 squared is no float16."""
        layout, dtype = self.layout, routing_type(query_bnhd)
        units = layout.routed
        if layout.choice == "groups":
            units = layout.routed_groups
            query_bnhd = query_bnhd.reshape(*query_bnhd.shape[:2], layout.kv_groups, -1)
        if units[-1] - units[0] + 1 == len(units):  # a view, and no norms of shared heads
            return _norms(query_bnhd[:, :, units[0] : units[-1] + 1], dtype)
        return _norms(query_bnhd, dtype).index_select(-1, _index(units, query_bnhd.device))


class FixedRouter(nn.Module):
    """Use the same heads for every token: all of them, or the shared ones only (static pruning)."""

    reads: Literal["hidden", "query"] = "hidden"

    def __init__(self, layout: HeadLayout) -> None:
        """Take the layer's heads.

        Raises:
            UserError: The layout leaves tokens a choice.
        """
        super().__init__()
        if 0 < layout.active < layout.units:
            raise UserError(
                "a fixed router cannot choose",
                value=f"{layout.active} of {layout.units} routed {layout.unit_name}",
                alternatives=ROUTERS,
            )
        self.layout = layout

    def forward(self, tokens_bn: Tensor, *, backend: str = "auto") -> Routing:
        """Give every token of (b, n, ...) the same heads, without gates."""
        return Routing(mask_bnh=_constant_mask(self.layout, tokens_bn))


def make_router(
    layout: HeadLayout,
    width: int,
    *,
    router: RouterKind,
    style: Style = "released",
    straight_through: bool = True,
    weigh_all: bool = False,
) -> LearnedRouter | QueryNormRouter | FixedRouter:
    """Make the router of a layer; the fixed one where tokens have no choice.

    Args:
        layout: The layer's heads.
        width: Of the layer's input, D.
        router: How a choice is made.
        style: Gates of a learned router.
        straight_through: Gradient of a query-norm router; a learned one has weighted gates and needs none.
        weigh_all: Give a learned router also to layers whose heads are all on: the released DiT's weighted full
            attention. Otherwise such a layer is plain attention.

    Raises:
        UserError: An unknown router.
    """
    if router not in ROUTERS:
        raise UserError("there is no such router", value=router, alternatives=ROUTERS)
    full = layout.active_heads == layout.query_heads
    weighed = full and weigh_all and router == "learned" and layout.query_heads > 1
    if not weighed and (full or layout.active == 0):
        return FixedRouter(layout)
    if router == "learned":
        return LearnedRouter(layout, width, style=style)
    return QueryNormRouter(layout, straight_through=straight_through)


def router_parameters(layout: HeadLayout, width: int, *, weigh_all: bool = False) -> int:
    """Count the weights of the learned router that `make_router` gives a layer: 0 where that is the fixed one."""
    full = layout.active_heads == layout.query_heads
    if (full and not (weigh_all and layout.query_heads > 1)) or (not full and layout.active == 0):
        return 0
    shared, units = len(layout.shared), layout.units * layout.choices
    rows = (shared if shared > 1 else 0) + units + (2 if shared and units else 0)
    return rows * width


def _check_choice(layout: HeadLayout) -> None:
    if layout.routed and layout.active == 0:
        raise UserError(
            "heads are routed, but a token takes none of them",
            value=f"{len(layout.routed)} routed heads, 0 active",
            fix="set at least one active, or use the fixed router to prune them",
        )


def _at_once(score_bnw: Tensor, backend: str) -> bool:
    """Say whether the C++ library routes by these scores: where its attention may run and it takes them."""
    return backend_now(backend) in {"auto", "native"} and native_routing.takes(score_bnw)


def _norms(query_bnhd: Tensor, dtype: torch.dtype) -> Tensor:
    norm_bnh: Tensor = torch.linalg.vector_norm(query_bnhd, dim=-1, dtype=dtype)
    return norm_bnh


@lru_cache(maxsize=512)
def _index(values: tuple[int, ...], device: torch.device) -> Tensor:
    """Hold an index on a device. No buffer of a module: loading a model leaves those uninitialised."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)


def _by_choice(layout: HeadLayout, units_bnu: Tensor) -> Tensor:
    return units_bnu.view(*units_bnu.shape[:2], layout.choices, layout.units)


def _spread(layout: HeadLayout, shared_bns: Tensor | None, routed_bnce: Tensor | None) -> Tensor:
    """Bring what belongs to shared heads and to units to the heads; (b, n, h)."""
    parts = [] if shared_bns is None or not layout.shared else [shared_bns]
    parts += [] if routed_bnce is None else [routed_bnce.flatten(-2)]
    joined = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
    if layout.sources == tuple(range(layout.query_heads)):
        return joined
    return joined.index_select(-1, _index(layout.sources, joined.device))


def _spread_mask(layout: HeadLayout, picked_bnce: Tensor) -> Tensor:
    on_bns = picked_bnce.new_ones(1).expand(*picked_bnce.shape[:2], len(layout.shared))
    return _spread(layout, on_bns, picked_bnce)


def _constant_mask(layout: HeadLayout, tokens_bn: Tensor) -> Tensor:
    heads = layout.shared if layout.active_heads < layout.query_heads else tuple(range(layout.query_heads))
    kept = set(heads)
    mask_h = _index(tuple(int(head in kept) for head in range(layout.query_heads)), tokens_bn.device).bool()
    return mask_h.expand(*tokens_bn.shape[:2], layout.query_heads)
