"""What the mixture-of-head benchmark times: attention, attention layers, one decoded token; dense ways and sparse ones.

H = 16 heads of 64, float32, random inputs, free choice as in the paper: each token takes heads at random, so that rows
are ragged. A sparse way pays for its router (layers), its plan and its gathering of rows. Shapes as in `strop.heads`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention

from strop.heads.attention import moh_attention
from strop.heads.backends.reference import gated_attention
from strop.heads.layout import HeadLayout
from strop.heads.plan import routing_plan
from strop.heads.projections import project_output, project_queries
from strop.heads.routers import LearnedRouter
from strop.heads.visibility import causal

HEADS, HEAD_WIDTH = 16, 64
WIDTH = HEADS * HEAD_WIDTH
SCALE = HEAD_WIDTH**-0.5
CACHES, DECODED = 4, 16
"""Caches that decoding reads in turn, as one alone would stay in the processor's cache; and tokens of one call."""
Passes = Literal["forward", "forward+backward"]
Way = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One size.

    Attributes:
        groups: KV heads; 16 is multi-head attention, 4 is 4 query heads a group.
        tokens: T.
        share: Active heads over all.
        batch: Rows.
        passes: With or without gradients of everything that has one.
    """

    groups: int
    tokens: int
    share: float
    batch: int = 1
    passes: Passes = "forward"

    @property
    def active(self) -> int:
        """Heads that a token takes."""
        return round(self.share * HEADS)

    def __str__(self) -> str:
        """As ``MHA T=2048 50 %``."""
        kind = "MHA" if self.groups == HEADS else f"{HEADS // self.groups} heads a group"
        batch = f" B={self.batch}" if self.batch > 1 else ""
        return f"{kind} T={self.tokens}{batch} {self.share:.0%} {self.passes}"


def random_mask(case: Case, *, active: int | None = None) -> Tensor:
    """Let each token take `active` heads at random; (b, n, h)."""
    active = case.active if active is None else active
    score_bnh = torch.rand(case.batch, case.tokens, HEADS)
    index_bnk = score_bnh.topk(active, dim=-1).indices
    return torch.zeros_like(score_bnh, dtype=torch.bool).scatter(2, index_bnk, True)


def core_ways(case: Case, backends: tuple[str, ...], *, packed: bool = True) -> dict[str, Way]:
    """Attention alone: dense, gated dense, each backend, and each with all heads on.

    Args:
        case: The size.
        backends: Names for `moh_attention`.
        packed: Whether a sparse way ends with its rows, as in a layer whose projections take rows, or with all heads.
    """
    grads = case.passes != "forward"
    shape = (case.batch, HEADS, case.tokens, HEAD_WIDTH)
    query = torch.randn(shape, requires_grad=grads)
    key, value = (torch.randn(case.batch, case.groups, case.tokens, HEAD_WIDTH, requires_grad=grads) for _ in range(2))
    leaves = (query, key, value) if grads else ()
    mask_bnh, full_bnh = random_mask(case), random_mask(case, active=HEADS)
    visible = causal(case.batch, case.tokens)

    def dense() -> Tensor:
        return scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=case.groups != HEADS)

    def gated() -> Tensor:
        return gated_attention(query, key, value, gate_bnh=mask_bnh, visible=visible, scale=SCALE)

    def sparse(backend: str, chosen_bnh: Tensor) -> Tensor:
        if not packed:
            return moh_attention(query, key, value, head_mask_bnh=chosen_bnh, visible=visible, backend=backend)
        plan = routing_plan(chosen_bnh, groups=case.groups, visible=visible)
        return moh_attention(plan.pack(query), key, value, plan=plan, backend=backend)

    ways: dict[str, Callable[[], Tensor]] = {"dense": dense, "gated dense": gated}
    for name in backends:
        ways[name] = partial(sparse, name, mask_bnh)
        ways[f"{name}, all heads"] = partial(sparse, name, full_bnh)
    return {name: passes_of(way, leaves, like=way()) for name, way in ways.items()}


def layer_ways(case: Case, backends: tuple[str, ...]) -> dict[str, Way]:
    """An attention layer, from its input to its output: projections, learned router, plan, attention, gates."""
    grads = case.passes != "forward"
    narrow = case.groups * HEAD_WIDTH
    hidden_bnD = torch.randn(case.batch, case.tokens, WIDTH, requires_grad=grads)
    query_qD, output_Dq = (torch.randn(WIDTH, WIDTH).div_(WIDTH**0.5).requires_grad_(grads) for _ in range(2))
    key_D, value_D = (torch.randn(narrow, WIDTH).div_(WIDTH**0.5).requires_grad_(grads) for _ in range(2))
    leaves = (hidden_bnD, query_qD, output_Dq, key_D, value_D) if grads else ()
    visible = causal(case.batch, case.tokens)

    def split(wide_bnq: Tensor) -> Tensor:
        return wide_bnq.view(case.batch, case.tokens, -1, HEAD_WIDTH).transpose(1, 2)

    def dense() -> Tensor:
        query, key, value = (split(linear(hidden_bnD, weight)) for weight in (query_qD, key_D, value_D))
        out = scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=case.groups != HEADS)
        return linear(out.transpose(1, 2).reshape(case.batch, case.tokens, WIDTH), output_Dq)

    def sparse(backend: str, router: LearnedRouter) -> Tensor:
        routing = router(hidden_bnD)
        plan = routing_plan(routing.mask_bnh, groups=case.groups, visible=visible)
        rows_rd = project_queries(hidden_bnD, query_qD, None, plan, head_width=HEAD_WIDTH, backend=backend)
        key, value = split(linear(hidden_bnD, key_D)), split(linear(hidden_bnD, value_D))
        rows_rd = moh_attention(rows_rd, key, value, plan=plan, backend=backend)
        return project_output(rows_rd, output_Dq, None, plan, gate_bnh=routing.gate_bnh, backend=backend)

    ways: dict[str, Callable[[], Tensor]] = {"dense": dense}
    routers = {"": random_router(case, case.active), ", all heads": random_router(case, HEADS)}
    for name in backends:
        for suffix, router in routers.items():
            ways[name + suffix] = partial(sparse, name, router)
    return {name: passes_of(way, leaves, like=way()) for name, way in ways.items()}


def random_router(case: Case, active: int) -> LearnedRouter:
    """Return a router whose weights are drawn, as after training: a fresh one gives every token the same heads."""
    layout = HeadLayout(query_heads=HEADS, kv_groups=case.groups, shared=(), active=active)
    router = LearnedRouter(layout, WIDTH)
    with torch.no_grad():
        for weight in router.parameters():
            weight.normal_(std=WIDTH**-0.5)
    return router.requires_grad_(case.passes != "forward")


def decode_ways(case: Case, backends: tuple[str, ...], *, by_group: bool) -> dict[str, Way]:
    """Sixteen new tokens for each row, one by one, behind `tokens` cached ones; each chooses anew."""
    from strop.heads.decoding import moh_decode

    size = (case.batch, case.groups, case.tokens, HEAD_WIDTH)
    caches = [(torch.randn(size), torch.randn(size)) for _ in range(CACHES)]
    query = torch.randn(case.batch, HEADS, 1, HEAD_WIDTH)
    one = Case(case.groups, 1, case.share, case.batch)
    masks = [_group_mask(one) if by_group else random_mask(one) for _ in range(DECODED)]
    full = random_mask(one, active=HEADS)
    visible = causal(case.batch, 1, case.tokens)

    def dense() -> None:
        for _, (key, value) in zip(range(DECODED), cycle(caches), strict=False):
            scaled_dot_product_attention(query, key, value, enable_gqa=case.groups != HEADS)

    def sparse(backend: str, chosen: list[Tensor]) -> None:
        for mask_bnh, (key, value) in zip(chosen, cycle(caches), strict=False):
            moh_decode(query, key, value, head_mask_bnh=mask_bnh, visible=visible, scale=SCALE, backend=backend)

    ways: dict[str, Way] = {"dense": dense}
    for name in backends:
        ways[name] = partial(sparse, name, masks)
        ways[f"{name}, all heads"] = partial(sparse, name, [full] * DECODED)
    return ways


def _group_mask(case: Case) -> Tensor:
    """Let each token take whole KV groups at random."""
    chosen = torch.rand(case.batch, case.tokens, case.groups).topk(round(case.share * case.groups), dim=-1).indices
    mask_bng = torch.zeros(case.batch, case.tokens, case.groups, dtype=torch.bool).scatter(2, chosen, True)
    return mask_bng.repeat_interleave(HEADS // case.groups, dim=-1)


def passes_of(forward: Callable[[], Tensor], leaves: tuple[Tensor, ...], *, like: Tensor) -> Way:
    """Return the forward pass alone, or with the gradients of all leaves."""
    if not leaves:

        def only_forward() -> None:
            with torch.inference_mode():
                forward()

        return only_forward
    grad = torch.randn_like(like)

    def both() -> None:
        torch.autograd.backward((forward(),), (grad,))
        for leaf in leaves:
            leaf.grad = None

    return both
