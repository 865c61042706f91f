"""Routers: their weights, exactly k heads, degenerate inputs, independence of tokens, and which gradients flow."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from strop.errors import UserError
from strop.heads.attention import moh_attention
from strop.heads.gates import norm_score
from strop.heads.layout import HeadLayout
from strop.heads.routers import (
    ROUTERS,
    FixedRouter,
    LearnedRouter,
    QueryNormRouter,
    RouterKind,
    make_router,
    router_parameters,
)
from strop.heads.routing import Routing

WIDTH, HEAD = 24, 8

LAYOUTS = {
    "paper": HeadLayout(query_heads=8, kv_groups=4, shared=(0, 1, 2, 3), active=2),
    "spread": HeadLayout(query_heads=8, kv_groups=8, shared=(1, 6), active=3),
    "unshared": HeadLayout(query_heads=6, kv_groups=6, shared=(), active=4),
    "per_group": HeadLayout(query_heads=8, kv_groups=2, shared=(), active=2, choice="per_group"),
    "one_shared_each": HeadLayout(query_heads=8, kv_groups=2, shared=(1, 4), active=2, choice="per_group"),
    "whole_shared": HeadLayout(query_heads=12, kv_groups=3, shared=(4, 5, 6, 7), active=2, choice="per_group"),
    "groups": HeadLayout(query_heads=8, kv_groups=4, shared=(2, 3), active=2, choice="groups"),
}


def first(shared: int, active: int, heads: int) -> HeadLayout:
    return HeadLayout(query_heads=heads, kv_groups=heads, shared=tuple(range(shared)), active=active)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tokens(layout: HeadLayout, kind: RouterKind, batch: int = 2, queries: int = 5) -> Tensor:
    width = (WIDTH,) if kind == "learned" else (layout.query_heads, HEAD)
    return drawn(batch, queries, *width)


def trained(layout: HeadLayout, kind: RouterKind) -> nn.Module:
    """A router whose learned weights are no longer zero."""
    router = make_router(layout, WIDTH, router=kind)
    for place, weight in enumerate(router.parameters()):
        weight.data = drawn(*weight.shape, seed=place + 1)
    return router


def counts(picked: Tensor) -> list[int]:
    """How many are picked, whoever picks: one number where it is the same everywhere."""
    return sorted(set(picked.sum(-1).flatten().tolist()))


def shapes(layout: HeadLayout) -> dict[str, tuple[int, ...]]:
    router = LearnedRouter(layout, WIDTH)
    return {name: tuple(weight.shape) for name, weight in router.named_parameters()}


def test_names_and_shapes_of_the_weights() -> None:
    """No shared.weight for h_s <= 1, no stage.weight for h_s = 0, only shared.weight where all are shared."""
    assert shapes(first(2, 2, 6)) == {"shared.weight": (2, 24), "routed.weight": (4, 24), "stage.weight": (2, 24)}
    assert shapes(first(1, 2, 6)) == {"routed.weight": (5, 24), "stage.weight": (2, 24)}
    assert shapes(first(0, 2, 6)) == {"routed.weight": (6, 24)}
    assert shapes(first(6, 0, 6)) == {"shared.weight": (6, 24)}
    assert shapes(LAYOUTS["one_shared_each"])["routed.weight"] == (6, 24)
    assert shapes(LAYOUTS["whole_shared"])["routed.weight"] == (8, 24)
    assert shapes(LAYOUTS["groups"])["routed.weight"] == (3, 24)
    assert list(QueryNormRouter(LAYOUTS["paper"]).state_dict()) == []
    assert list(FixedRouter(first(2, 0, 6)).state_dict()) == []


def test_router_weights_of_the_published_budgets() -> None:
    """DiT-XL-90, D = 1,152: (16 + 8 + 2) x 9 + 8 x 9 + 16 x 10 = 466 rows; Llama-3-8B would have 34 x 4,096 x 32."""
    layers = [first(8, 0, 8)] * 9 + [first(16, 0, 16)] * 10 + [first(16, 3, 24)] * 9
    assert sum(router_parameters(layout, 1152, weigh_all=True) for layout in layers) == 466 * 1152
    llama = HeadLayout(query_heads=32, kv_groups=8, shared=tuple(range(16)), active=8)
    assert 32 * router_parameters(llama, 4096) == 4_456_448


@pytest.mark.parametrize("weigh_all", [False, True])
@pytest.mark.parametrize("layout", [*LAYOUTS.values(), first(6, 0, 6), first(1, 0, 1), first(3, 0, 6), first(3, 3, 6)])
def test_the_count_is_that_of_the_router(layout: HeadLayout, weigh_all: bool) -> None:
    router = make_router(layout, WIDTH, router="learned", weigh_all=weigh_all)
    counted = sum(weight.numel() for weight in router.parameters())
    assert counted == router_parameters(layout, WIDTH, weigh_all=weigh_all)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", ROUTERS)
@pytest.mark.parametrize("name", LAYOUTS)
def test_exactly_the_layouts_heads_are_on(name: str, kind: RouterKind, training: bool) -> None:
    layout = LAYOUTS[name]
    routing: Routing = trained(layout, kind).train(training)(tokens(layout, kind))
    assert (routing.mask_bnh.dtype, routing.mask_bnh.shape) == (torch.bool, (2, 5, layout.query_heads))
    assert bool(routing.mask_bnh[..., list(layout.shared)].all())
    assert counts(routing.mask_bnh) == [layout.active_heads]
    assert routing.picked_bnce is not None
    assert routing.picked_bnce.shape == (2, 5, layout.choices, layout.units)
    assert counts(routing.picked_bnce) == [layout.active]
    by_group: list[list[int]] = routing.mask_bnh.view(10, layout.kv_groups, -1).sum(-1).tolist()
    if layout.choice == "per_group":
        shared = [layout.shared_in(group) for group in range(layout.kv_groups)]
        wanted = [n if n == layout.heads_per_group else n + layout.active for n in shared]
        assert by_group == [wanted] * 10
    if layout.choice == "groups":
        assert {n for token in by_group for n in token} == {0, layout.heads_per_group}
    if routing.gate_bnh is not None:
        assert routing.gate_bnh.dtype == torch.float32
        assert torch.equal(routing.gate_bnh != 0, routing.mask_bnh)
    if routing.probability_bnce is not None:
        torch.testing.assert_close(routing.probability_bnce.sum(-1), torch.ones(2, 5, layout.choices))


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_untrained_learned_router_weighs_every_active_head_1(name: str) -> None:
    layout = LAYOUTS[name]
    routing = LearnedRouter(layout, WIDTH)(tokens(layout, "learned"))
    assert torch.equal(routing.gate_bnh, routing.mask_bnh.float())


def test_full_activation_of_an_untrained_router_is_plain_attention() -> None:
    """K = E with zero weights: gates 1, so the layer gives exactly what it gave."""
    layout = first(2, 4, 6)
    routing = LearnedRouter(layout, WIDTH)(tokens(layout, "learned"))
    query, key, value = (drawn(2, 6, 5, HEAD, seed=place) for place in (1, 2, 3))
    plain = moh_attention(query, key, value, backend="reference")
    gated = moh_attention(query, key, value, weight_bnh=routing.gate_bnh, backend="reference")
    assert torch.equal(plain, gated)


def test_gates_of_a_spread_layout_by_hand() -> None:
    """Heads 1 and 2 of 4 shared, W_s x = ln (3, 1), W_r x = (2, 1), even stages: 2 x .5 x 2 x (.75, .25); head 0 on."""
    layout = HeadLayout(query_heads=4, kv_groups=4, shared=(1, 2), active=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        router = LearnedRouter(layout, 1)
    assert router.shared is not None
    assert router.routed is not None
    router.shared.weight.data = torch.tensor([[3.0], [1.0]]).log()
    router.routed.weight.data = torch.tensor([[2.0], [1.0]])
    routing = router(torch.ones(1, 1, 1))
    torch.testing.assert_close(routing.gate_bnh, torch.tensor([[[1.0, 1.5, 0.5, 0.0]]]))
    assert routing.mask_bnh.tolist() == [[[True, True, True, False]]]


def test_the_norm_router_is_the_released_rule() -> None:
    """First half shared, top quarter of the rest by norm; probability = softmax(norm / deviation)."""
    layout, query_bnhd = LAYOUTS["paper"], drawn(2, 5, 8, HEAD)
    routing = QueryNormRouter(layout)(query_bnhd)
    norm_bne = query_bnhd[:, :, 4:].norm(dim=-1)
    picked_bnk = norm_bne.topk(2, dim=-1).indices
    wanted = torch.zeros(2, 5, 4, dtype=torch.bool).scatter(2, picked_bnk, True)
    assert torch.equal(routing.picked_bnce[:, :, 0], wanted)
    assert torch.equal(routing.mask_bnh, torch.cat([torch.ones(2, 5, 4, dtype=torch.bool), wanted], dim=-1))
    torch.testing.assert_close(routing.probability_bnce[:, :, 0], norm_score(norm_bne))


def test_a_groups_norm_is_that_of_all_its_queries() -> None:
    """Three groups of two: norms 5 (3, 4), sqrt(32) (4, 4) and 6 (6, 0): the last two are picked."""
    layout = HeadLayout(query_heads=6, kv_groups=3, shared=(), active=2, choice="groups")
    query_bnhd = torch.tensor([3.0, 4.0, 4.0, 4.0, 6.0, 0.0]).view(1, 1, 6, 1)
    assert QueryNormRouter(layout)(query_bnhd).mask_bnh.tolist() == [[[False, False, True, True, True, True]]]


@pytest.mark.parametrize("kind", ROUTERS)
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_tokens_choice_depends_on_nothing_else(name: str, kind: RouterKind) -> None:
    """A row alone, a prefix and another order of rows choose alike."""
    layout = LAYOUTS[name]
    router, every = trained(layout, kind).eval(), tokens(layout, kind, 3, 7)
    mask_bnh = router(every).mask_bnh
    assert torch.equal(router(every[1:2]).mask_bnh, mask_bnh[1:2])
    assert torch.equal(router(every[:, :4]).mask_bnh, mask_bnh[:, :4])
    assert torch.equal(router(every[[2, 0, 1]]).mask_bnh, mask_bnh[[2, 0, 1]])


@settings(max_examples=50)
@given(st.floats(1e-3, 1e3), st.integers(0, 1000))
def test_scaling_all_queries_changes_no_choice(factor: float, seed: int) -> None:
    query_bnhd = drawn(1, 3, 8, HEAD, seed=seed).double()
    router = QueryNormRouter(LAYOUTS["one_shared_each"])
    one, other = router(query_bnhd), router(query_bnhd * factor)
    assert torch.equal(one.mask_bnh, other.mask_bnh)
    torch.testing.assert_close(one.probability_bnce, other.probability_bnce)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("value", [0.0, 1.0, 6000.0])
def test_equal_queries_choose_the_first_units_without_nan(name: str, value: float) -> None:
    """Zero input, or a model whose heads normalise their queries; in float16 the norm of 6,000s is beyond its range."""
    layout = LAYOUTS[name]
    query_bnhd = torch.full((1, 2, layout.query_heads, 128), value, dtype=torch.float16, requires_grad=True)
    routing = QueryNormRouter(layout)(query_bnhd)
    assert routing.picked_bnce.flatten(0, 2).unique(dim=0).tolist() == [
        [place < layout.active for place in range(layout.units)]
    ]
    assert routing.gate_bnh is not None
    (routing.gate_bnh.sum() + routing.probability_bnce.square().sum()).backward()
    assert query_bnhd.grad is not None
    assert bool(query_bnhd.grad.isfinite().all())


def test_float16_queries_of_6000_keep_their_order() -> None:
    """Norms 6,000 x sqrt(128) = 67,882 > 65,504: the released code has infinities here."""
    layout = first(0, 1, 3)
    query_bnhd = torch.full((1, 1, 3, 128), 6000.0, dtype=torch.float16)
    query_bnhd[0, 0, 1] = 6004.0
    assert QueryNormRouter(layout)(query_bnhd).mask_bnh.tolist() == [[[False, True, False]]]


def test_one_and_two_routed_heads() -> None:
    """E = 1: on or pruned, nothing to choose. E = 2, k = 1: the longer query, probability .804."""
    for active in (0, 1):
        one = HeadLayout(query_heads=2, kv_groups=2, shared=(0,), active=active)
        for kind in ROUTERS:
            fixed = make_router(one, WIDTH, router=kind)
            assert isinstance(fixed, FixedRouter)
            assert fixed(torch.zeros(1, 1, 3)).mask_bnh.tolist() == [[[True, active == 1]]]
    two = HeadLayout(query_heads=3, kv_groups=3, shared=(0,), active=1)
    routing = QueryNormRouter(two)(torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 3, 1))
    assert routing.mask_bnh.tolist() == [[[True, False, True]]]
    assert routing.probability_bnce.max().item() == pytest.approx(0.8044, abs=5e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_chooses_as_float32_does(dtype: torch.dtype) -> None:
    """The same rounded numbers give the same choice: nothing between them and the choice is rounded again."""
    layout = LAYOUTS["paper"]
    for kind in ROUTERS:
        router, given_tokens = trained(layout, kind).to(dtype), tokens(layout, kind, 4, 64).to(dtype)
        wanted = copy.deepcopy(router).float()(given_tokens.float())
        found = router(given_tokens)
        assert torch.equal(found.mask_bnh, wanted.mask_bnh)
        assert found.probability_bnce.dtype == torch.float32
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = copy.deepcopy(router).float()(given_tokens.float())
        assert torch.equal(inside.mask_bnh, wanted.mask_bnh)


@pytest.mark.parametrize("kind", ROUTERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_inputs_are_refused_before_any_work(kind: RouterKind, value: float) -> None:
    broken = tokens(LAYOUTS["paper"], kind)
    broken.view(2, 5, -1)[1, 3, -1] = value
    with pytest.raises(UserError, match=r"cannot route.*not all finite"):
        trained(LAYOUTS["paper"], kind)(broken)


@pytest.mark.parametrize("kind", ROUTERS)
def test_evaluation_keeps_no_probabilities(kind: RouterKind) -> None:
    layout = LAYOUTS["paper"]
    router = trained(layout, kind).eval()
    with torch.no_grad():
        routing = router(tokens(layout, kind))
    assert routing.probability_bnce is None
    assert (routing.gate_bnh is None) == (kind == "query_norm")


def test_fixed_routers_prune_or_keep_everything() -> None:
    pruned = FixedRouter(HeadLayout(query_heads=4, kv_groups=4, shared=(1, 2), active=0))
    assert pruned(torch.zeros(2, 3, 7)).mask_bnh[1, 2].tolist() == [False, True, True, False]
    assert FixedRouter(first(1, 3, 4))(torch.zeros(2, 3, 4, 5)).mask_bnh.shape == (2, 3, 4)
    assert bool(FixedRouter(first(1, 3, 4))(torch.zeros(2, 3, 4, 5)).mask_bnh.all())
    routing = pruned(torch.zeros(1, 1, 7))
    assert (routing.gate_bnh, routing.probability_bnce, routing.picked_bnce) == (None, None, None)


def test_the_right_router_is_made() -> None:
    assert isinstance(make_router(LAYOUTS["paper"], WIDTH, router="learned"), LearnedRouter)
    made = make_router(LAYOUTS["paper"], WIDTH, router="query_norm", straight_through=False)
    assert isinstance(made, QueryNormRouter)
    assert not made.straight_through
    assert isinstance(make_router(first(4, 0, 4), WIDTH, router="learned"), FixedRouter)
    assert isinstance(make_router(first(4, 0, 4), WIDTH, router="learned", weigh_all=True), LearnedRouter)
    assert isinstance(make_router(first(1, 0, 1), WIDTH, router="learned", weigh_all=True), FixedRouter)
    assert isinstance(make_router(first(2, 0, 4), WIDTH, router="learned", weigh_all=True), FixedRouter)


def test_what_makes_no_router_is_refused() -> None:
    with pytest.raises(UserError, match="no such router"):
        make_router(LAYOUTS["paper"], WIDTH, router="random")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no such style"):
        LearnedRouter(LAYOUTS["paper"], WIDTH, style="ours")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="takes none"):
        LearnedRouter(first(2, 0, 4), WIDTH)
    with pytest.raises(UserError, match="takes none"):
        QueryNormRouter(first(2, 0, 4))
    with pytest.raises(UserError, match="always on"):
        QueryNormRouter(first(4, 0, 4))
    with pytest.raises(UserError, match="single head"):
        LearnedRouter(first(1, 0, 1), WIDTH)
    with pytest.raises(UserError, match="cannot choose"):
        FixedRouter(first(1, 2, 4))


class Attention(nn.Module):
    """One layer in float64: projections, a router, the reference attention, and an output projection."""

    def __init__(self, layout: HeadLayout, kind: RouterKind, *, straight_through: bool = True) -> None:
        super().__init__()
        self.layout, self.kind = layout, kind
        self.q_proj = nn.Parameter(drawn(layout.query_heads * HEAD, WIDTH, seed=11).double())
        self.kv = drawn(2, 1, layout.kv_groups, 5, HEAD, seed=12).double()
        self.o_proj = drawn(WIDTH, layout.query_heads * HEAD, seed=13).double()
        self.router = make_router(layout, WIDTH, router=kind, straight_through=straight_through)
        for place, weight in enumerate(self.router.parameters()):
            weight.data = drawn(*weight.shape, seed=20 + place).double()

    def forward(self, hidden_bnD: Tensor) -> Tensor:
        query_bnhd = (hidden_bnD @ self.q_proj.T).view(1, 5, self.layout.query_heads, HEAD)
        routing = self.router(hidden_bnD if self.kind == "learned" else query_bnhd)
        gate_bnh = routing.mask_bnh.double() if routing.gate_bnh is None else routing.gate_bnh
        out_bhnd = moh_attention(query_bnhd.transpose(1, 2), *self.kv, weight_bnh=gate_bnh, backend="reference")
        output: Tensor = out_bhnd.transpose(1, 2).flatten(2) @ self.o_proj.T
        return output


def hidden() -> Tensor:
    return drawn(1, 5, WIDTH, seed=9).double()


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_task_teaches_a_learned_router_from_two_heads_on(name: str) -> None:
    layer = Attention(LAYOUTS[name], "learned")
    layer(hidden()).square().sum().backward()
    for weight in layer.router.parameters():
        assert weight.grad is not None
        assert weight.grad.abs().max().item() > 1e-6


def test_one_picked_head_gets_no_gradient_and_a_warning() -> None:
    """The renormalised gate of one head is 1 whatever its score; the stage still learns."""
    layout = first(2, 1, 6)
    with pytest.warns(UserWarning, match=r"picks one of 4 heads.*no gradient"):
        layer = Attention(layout, "learned")
    layer(hidden()).square().sum().backward()
    router = layer.router
    assert isinstance(router, LearnedRouter)
    assert router.routed is not None
    assert router.stage is not None
    assert router.routed.weight.grad is not None
    assert router.stage.weight.grad is not None
    assert router.routed.weight.grad.abs().max().item() < 1e-12
    assert router.stage.weight.grad.abs().max().item() > 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        paper = LearnedRouter(layout, WIDTH, style="paper").double()
    assert paper.routed is not None
    paper(hidden()).gate_bnh[..., 2:].square().sum().backward()
    assert paper.routed.weight.grad is not None


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("straight_through", [True, False])
def test_query_rows_of_heads_that_no_token_used(name: str, straight_through: bool) -> None:
    """Zero task gradient without straight-through, some with it: the only word that they should have been chosen."""
    layout = LAYOUTS[name]
    layer = Attention(layout, "query_norm", straight_through=straight_through)
    layer.q_proj.data.view(layout.query_heads, -1)[layout.routed[-1]] *= 1e-2
    if layout.choice == "groups":
        layer.q_proj.data.view(layout.query_heads, -1)[-layout.heads_per_group :] *= 1e-2
    output = layer(hidden())
    query_bnhd = (hidden() @ layer.q_proj.T).view(1, 5, layout.query_heads, HEAD)
    assert not bool(layer.router(query_bnhd).mask_bnh[..., layout.routed[-1]].any())
    output.square().sum().backward()
    assert layer.q_proj.grad is not None
    unused = layer.q_proj.grad.view(layout.query_heads, -1)[layout.routed[-1]].abs().max().item()
    assert (unused > 0) == straight_through


@pytest.mark.parametrize("kind", ROUTERS)
@pytest.mark.parametrize("name", LAYOUTS)
def test_finite_differences_of_the_whole_layer(name: str, kind: RouterKind) -> None:
    """Away from ties the choice is constant, and the analytic gradient is that of the function.

    Without straight-through: that one is meant to differ from the function's own gradient.
    """
    layer = Attention(LAYOUTS[name], kind, straight_through=False)
    parameters = dict(layer.named_parameters())
    for weight in parameters.values():
        weight.data *= 0.5
    direction = {parameter: drawn(*weight.shape, seed=31).double() for parameter, weight in parameters.items()}

    def loss(step: float) -> Tensor:
        moved = {parameter: weight + step * direction[parameter] for parameter, weight in parameters.items()}
        return torch.func.functional_call(layer, moved, (hidden(),)).square().sum()  # type: ignore[no-any-return]

    gradients = torch.autograd.grad(loss(0.0), list(parameters.values()))
    slope = sum(float((gradient * direction[name]).sum()) for name, gradient in zip(parameters, gradients, strict=True))
    step = 1e-6
    assert slope == pytest.approx((loss(step).item() - loss(-step).item()) / (2 * step), rel=1e-5)


@pytest.mark.parametrize("kind", ROUTERS)
@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_changes_nothing(kind: RouterKind, reentrant: bool) -> None:
    """A reentrant checkpoint runs first without gradient, where the norm router gives no gates: the same numbers."""
    layer = Attention(LAYOUTS["one_shared_each"], kind)
    plain, saved = (
        layer(hidden().requires_grad_()),
        checkpoint(layer, hidden().requires_grad_(), use_reentrant=reentrant),
    )
    assert isinstance(saved, Tensor)
    assert torch.equal(plain, saved)
    weights = list(layer.parameters())
    gradients = []
    for output in (plain, saved):
        layer.zero_grad()
        output.square().sum().backward()
        gradients.append([weight.grad for weight in weights])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)


def test_routers_survive_copying_and_saving() -> None:
    """No buffers: the state of a copy is that of the weights, and it loads strictly."""
    layout = LAYOUTS["spread"]
    router = trained(layout, "learned")
    other = make_router(layout, WIDTH, router="learned")
    other.load_state_dict(copy.deepcopy(router).state_dict(), strict=True)
    assert torch.equal(other(hidden().float()).gate_bnh, router(hidden().float()).gate_bnh)
