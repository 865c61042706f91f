"""What heads contribute, a router's fit, gates on a dense model, and how tokens use heads."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch

from strop.heads.importance import gradient_importance
from strop.heads.layout import HeadLayout
from strop.methods.mixture_of_heads.calibration import calibrate, output_norms
from strop.methods.mixture_of_heads.config import Heads
from strop.methods.mixture_of_heads.figures import apart, step_ends
from strop.methods.mixture_of_heads.fitting import LayerSums, fitted_router
from strop.methods.mixture_of_heads.jumps import gated_heads, routers_of, variants
from strop.methods.mixture_of_heads.token_types import token_type

HEADS, GROUPS = 6, 3


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=GROUPS,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def blocks() -> list[list[int]]:
    drawn: list[list[int]] = torch.randint(0, 50, (6, 12), generator=torch.Generator().manual_seed(1)).tolist()
    return drawn


def logits(model: Any, blocks: Sequence[Sequence[int]]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.tensor([list(one) for one in blocks]), use_cache=False).logits
    return found


def test_norms_are_of_what_each_head_adds(model: Any, blocks: list[list[int]]) -> None:
    """Against the projection of each head alone, one after the other."""
    projection = model.model.layers[1].self_attn.o_proj
    given: list[torch.Tensor] = []
    handle = projection.register_forward_pre_hook(lambda _, held: given.append(held[0]))
    logits(model, blocks)
    handle.remove()
    parts = [slice(head * 8, head * 8 + 8) for head in range(HEADS)]
    alone = torch.stack([(given[0][..., part] @ projection.weight[:, part].T).norm(dim=-1) for part in parts], -1)
    norms = output_norms(given[0].flatten(0, 1), projection.weight, heads=HEADS)
    torch.testing.assert_close(norms, alone.flatten(0, 1), rtol=1e-4, atol=1e-6)


def test_contributions_have_the_importance_as_their_mean(model: Any, blocks: list[list[int]]) -> None:
    """And sums over batches do not depend on how the text is cut."""
    found = calibrate(model, blocks, batch=4)
    importance = torch.tensor(found.importance, dtype=torch.float64)
    torch.testing.assert_close(importance, gradient_importance(model, [{"input_ids": torch.tensor(blocks)}]))
    assert [sums.tokens for sums in found.sums] == [72, 72]
    again = calibrate(model, blocks, batch=6)
    for one, other in zip(found.sums, again.sums, strict=True):
        torch.testing.assert_close(one.cross_Dh, other.cross_Dh, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(one.gram_DD, other.gram_DD, rtol=1e-4, atol=1e-6)


def test_a_fit_orders_units_as_they_contribute() -> None:
    """Contributions that are linear in the input are ranked exactly, from sums over two batches."""
    source = torch.Generator().manual_seed(2)
    hidden = torch.randn(400, 8, generator=source)
    planted = torch.randn(8, 4, generator=source)
    contribution = hidden @ planted
    sums = LayerSums.of(hidden[:100], contribution[:100]).plus(LayerSums.of(hidden[100:], contribution[100:]))
    weight = fitted_router(sums, HeadLayout(query_heads=4, kv_groups=4, shared=(), active=2))
    fitted = hidden @ weight.T
    same = (fitted.topk(2).indices.sort().values == contribution.topk(2).indices.sort().values).all(-1)
    assert same.float().mean() > 0.95
    assert fitted.square().mean().sqrt().item() == pytest.approx(0.05, rel=1e-3)


def test_rows_are_those_of_the_routed_heads() -> None:
    """Head 1 is shared: the rows are heads 0, 2 and 3; of whole groups they are groups."""
    hidden = torch.randn(50, 5, generator=torch.Generator().manual_seed(3))
    sums = LayerSums.of(hidden, hidden[:, :4])
    assert fitted_router(sums, HeadLayout(query_heads=4, kv_groups=4, shared=(1,), active=1)).shape == (3, 5)
    grouped = HeadLayout(query_heads=4, kv_groups=2, shared=(), active=1, choice="groups")
    assert fitted_router(sums, grouped).shape == (2, 5)


def test_gates_of_one_change_nothing(model: Any, blocks: list[list[int]]) -> None:
    """A fixed router that uses all heads gives the model's own logits."""
    from strop.heads.routers import FixedRouter

    full = FixedRouter(HeadLayout(query_heads=HEADS, kv_groups=GROUPS, shared=tuple(range(HEADS)), active=0))
    before = logits(model, blocks)
    with gated_heads(model, [full, full]):
        assert torch.equal(logits(model, blocks), before)
    assert torch.equal(logits(model, blocks), before)


@pytest.mark.parametrize("router", ["learned", "query_norm"])
def test_a_pruned_head_is_a_head_whose_projection_is_zero(model: Any, blocks: list[list[int]], router: str) -> None:
    """Heads left out by a gate equal heads whose columns of the output projection are zero."""
    found = calibrate(model, blocks)
    heads = Heads.model_validate({"active": "1/2", "choice": "per_group", "router": router})
    made, routers = routers_of(heads, "pruned", found.importance, found.sums, kv_groups=GROUPS)
    with gated_heads(model, routers):
        gated = logits(model, blocks)
    kept = [layer.self_attn.o_proj.weight.clone() for layer in model.model.layers]
    try:
        with torch.no_grad():
            for layer, layout in zip(model.model.layers, made, strict=True):
                for head in layout.routed:
                    layer.self_attn.o_proj.weight[:, head * 8 : head * 8 + 8] = 0.0
        torch.testing.assert_close(gated, logits(model, blocks), rtol=1e-5, atol=1e-5)
    finally:
        with torch.no_grad():
            for layer, weight in zip(model.model.layers, kept, strict=True):
                layer.self_attn.o_proj.weight.copy_(weight)


def test_the_ways_to_begin_of_smollm2() -> None:
    """7 of 9 free: 3 of 7 shared by each of three rules; 2 of 3 a group: one a group."""
    free = [way.name for way in variants(Heads(active=7 / 9, choice="free"), query_heads=9, kv_groups=3)]
    assert free[:3] == ["pruned: first", "pruned: importance", "query_norm: none shared"]
    assert "learned: 3 shared, first" in free
    grouped = [way.name for way in variants(Heads(active=2 / 3), query_heads=9, kv_groups=3)]
    assert "learned: 3 shared, per_group" in grouped
    assert "learned: 3 shared, first" not in grouped


@pytest.mark.parametrize(
    ("text", "before", "kind"),
    [
        (" the", "of", "word start"),
        ("ing", "go", "continuation"),
        ("The", "\n", "word start"),
        ("self", "(", "word start"),
        (" 7", "=", "digit"),
        ("12", " ", "digit"),
        (" (", "f", "punctuation"),
        ("...", "a", "punctuation"),
        ("\n\n", ".", "other"),
        ("", "a", "other"),
        ("\N{SUPERSCRIPT TWO}", "x", "digit"),
    ],
)
def test_types_of_tokens(text: str, before: str, kind: str) -> None:
    assert token_type(text, before=before) == kind


def test_profiles_apart_by_hand() -> None:
    """(1, 1, 0) and (1, 0, 1) share one of two heads; equal ones all, disjoint ones none."""
    assert apart((1, 1, 0), (1, 0, 1)) == 0.5
    assert apart((0.5, 0.5), (0.5, 0.5)) == 0.0
    assert apart((1, 0), (0, 1)) == 1.0


def test_steps_of_a_curve_are_all_covered() -> None:
    assert step_ends(5) == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]
    ends = step_ends(100)
    assert ends[0][0] == 0
    assert ends[-1][1] == 100
    assert all(one[1] == other[0] for one, other in pairwise(ends))
