"""Routing by the C++ library: the same heads as the routers' own torch, ties included, and the same gates."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from strop.errors import UserError
from strop.heads.attention import using
from strop.heads.backends import native, native_routing
from strop.heads.gates import STYLES, Style
from strop.heads.layout import Choice, HeadLayout
from strop.heads.routers import LearnedRouter, QueryNormRouter
from strop.heads.routing import Routing

WIDTH, HEAD = 12, 4

pytestmark = pytest.mark.skipif(native.available() is not None, reason=str(native.available()))


@st.composite
def layouts(draw: st.DrawFn) -> HeadLayout:
    """Any layout of up to 24 heads that leaves a choice."""
    choice: Choice = draw(st.sampled_from(["free", "per_group", "groups"]))
    groups, members = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    every = range(groups * members)
    if choice == "free":
        shared = [head for head in every if draw(st.booleans())]
    else:
        whole = [group for group in range(groups) if draw(st.integers(0, 3)) == 0]
        each = 0 if choice == "groups" else draw(st.integers(0, members - 1))
        shared = [head for head in every if head // members in whole or head % members < each]
    none = HeadLayout(query_heads=groups * members, kv_groups=groups, shared=tuple(shared), active=0, choice=choice)
    if not none.routed:
        none = HeadLayout(query_heads=groups * members, kv_groups=groups, shared=(), active=0, choice=choice)
    active = draw(st.integers(1, none.units))
    return HeadLayout(query_heads=none.query_heads, kv_groups=groups, shared=none.shared, active=active, choice=choice)


def same(ours: Routing, theirs: Routing) -> None:
    assert torch.equal(ours.mask_bnh, theirs.mask_bnh)
    assert ours.picked_bnce is not None
    assert theirs.picked_bnce is not None
    assert torch.equal(ours.picked_bnce, theirs.picked_bnce)
    if theirs.gate_bnh is None:
        assert ours.gate_bnh is None
    else:
        assert ours.gate_bnh is not None
        torch.testing.assert_close(ours.gate_bnh, theirs.gate_bnh, rtol=2e-6, atol=1e-9)
        assert torch.equal(ours.gate_bnh == 0, theirs.gate_bnh == 0)


def both(router: torch.nn.Module, tokens: Tensor) -> tuple[Routing, Routing]:
    router.eval()
    with torch.inference_mode():
        with using("native"):
            ours = router(tokens)
        with using("gathered"):
            theirs = router(tokens)
    return ours, theirs


@settings(max_examples=150, deadline=None)
@given(layouts(), st.sampled_from(STYLES), st.integers(0, 1000), st.booleans())
@pytest.mark.filterwarnings("ignore:a token picks one")
def test_a_learned_router_routes_alike(layout: HeadLayout, style: Style, seed: int, with_ties: bool) -> None:
    """Weights of -1, 0 and 1 on inputs of -1, 0 and 1 make many ties, and zeros of both signs."""
    source = torch.Generator().manual_seed(seed)
    router = LearnedRouter(layout, WIDTH, style=style)
    tokens = torch.randn(3, 5, WIDTH, generator=source)
    for weight in router.parameters():
        weight.data = torch.randn(*weight.shape, generator=source)
        if with_ties:
            weight.data = weight.data.round().clamp(-1, 1)
    same(*both(router, tokens.round().clamp(-1, 1) if with_ties else tokens))


@settings(max_examples=60, deadline=None)
@given(layouts(), st.integers(0, 1000))
def test_query_norms_route_alike(layout: HeadLayout, seed: int) -> None:
    query = torch.randn(2, 7, layout.query_heads, HEAD, generator=torch.Generator().manual_seed(seed)).round()
    same(*both(QueryNormRouter(layout), query))


def test_many_tokens_on_several_threads() -> None:
    """40,000 tokens of 32 scores are worth several threads."""
    layout = HeadLayout(query_heads=32, kv_groups=8, shared=(), active=2, choice="per_group")
    score = torch.randn(4, 10_000, 32, generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 4):
            torch.set_num_threads(count)
            found.append(native_routing.route(score, layout, style="released", what="scores"))
    finally:
        torch.set_num_threads(threads)
    assert found[0].gate_bnh is not None
    assert found[1].gate_bnh is not None
    assert torch.equal(found[0].mask_bnh, found[1].mask_bnh)
    assert torch.equal(found[0].gate_bnh, found[1].gate_bnh)
    assert (found[0].mask_bnh.view(4, -1, 8, 4).sum(-1) == 2).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_not_finite_is_refused(bad: float) -> None:
    layout = HeadLayout(query_heads=4, kv_groups=2, shared=(0,), active=2)
    score = torch.zeros(2, 3, 5)
    score[1, 2, 4] = bad
    with pytest.raises(UserError, match="cannot route: the scores are not all finite"):
        native_routing.route(score, layout, style="paper", stages=2, what="the scores")


def test_very_large_scores_have_gates() -> None:
    """Shares of scores 1e30 apart are 1 and 0, not NaN."""
    layout = HeadLayout(query_heads=3, kv_groups=3, shared=(), active=2)
    found = native_routing.route(torch.tensor([[[1e30, -1e30, 0.0]]]), layout, style="released", what="scores")
    assert found.gate_bnh is not None
    assert found.gate_bnh.tolist() == [[[2.0, 0.0, 0.0]]]
    assert found.mask_bnh.tolist() == [[[True, False, True]]]


def test_scores_of_another_layout_are_refused() -> None:
    layout = HeadLayout(query_heads=4, kv_groups=2, shared=(0,), active=2)
    with pytest.raises(UserError, match="score_bnw"):
        native_routing.route(torch.zeros(1, 1, 3), layout, style="released", stages=2, what="scores")


def test_what_is_learned_is_left_to_torch() -> None:
    """With a gradient, or in training, there are probabilities for the load balance."""
    layout = HeadLayout(query_heads=4, kv_groups=2, shared=(), active=2)
    router = LearnedRouter(layout, WIDTH)
    tokens = torch.randn(1, 2, WIDTH, generator=torch.Generator().manual_seed(0))
    assert router.eval()(tokens).probability_bnce is not None
    with torch.no_grad():
        assert router.train()(tokens).probability_bnce is not None
        assert router.eval()(tokens).probability_bnce is None
