"""What a converted layer does where models differ or numbers are extreme: biases, norms, windows, overflow, NaN."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import strop.heads  # noqa: F401  # makes the converted types known to transformers
from routed_decoders import GROUPS, HEADS, dense_decoder, logits, routed_decoder, tokens
from strop.errors import UserError
from strop.heads.attention import using
from strop.heads.gates import top_k
from strop.heads.layout import HeadLayout
from strop.heads.modeling import MoHSettings
from strop.heads.modeling.attention import MoHAttention
from strop.heads.modeling.balance import MoHBalance
from strop.heads.modeling.sight import Sight

FREE = HeadLayout(query_heads=HEADS, kv_groups=GROUPS, shared=(), active=4)


def first_choice(model: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Run a model and return the first layer's input and mask."""
    seen: dict[str, Tensor] = {}
    layer = model.model.layers[0].self_attn
    handles = [
        layer.register_forward_pre_hook(
            lambda _m, _given, named: seen.update(hidden=named["hidden_states"]), with_kwargs=True
        ),
        layer.router.register_forward_hook(lambda _m, _given, made: seen.update(mask=made.mask_bnh)),
    ]
    with torch.no_grad():
        model(input_ids=ids, use_cache=False)
    for handle in handles:
        handle.remove()
    return seen["hidden"], seen["mask"]


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
def test_the_choice_is_of_the_projection_with_its_bias_before_any_norm(family: str) -> None:
    """Qwen2's bias counts, as its heads' queries hold it; Qwen3's norm of each head does not."""
    model = routed_decoder(dense_decoder(family), FREE, router="query_norm")
    hidden, mask = first_choice(model, tokens(2, 30))
    layer = model.model.layers[0].self_attn
    projected = nn.functional.linear(hidden, layer.q_proj.weight, layer.q_proj.bias)
    assert torch.equal(mask, top_k(projected.unflatten(-1, (HEADS, -1)).norm(dim=-1), 4))  # type: ignore[no-untyped-call]
    assert (layer.q_proj.bias is not None) == (family == "qwen2")


def test_float16_queries_of_six_thousand_are_routed_rightly() -> None:
    """Sixteen values of 6,000 have a norm of 24,000, whose square float16 cannot hold; the choice is float32's."""
    model = routed_decoder(dense_decoder("llama"), FREE, router="query_norm").half()
    layer = model.model.layers[0].self_attn
    hidden, _ = first_choice(model, tokens(1, 20))
    with torch.no_grad():
        layer.q_proj.weight *= 6000 / float((hidden @ layer.q_proj.weight.T).abs().max())
    hidden, mask = first_choice(model, tokens(1, 20))
    query = layer.q_proj(hidden).detach().unflatten(-1, (HEADS, -1))
    assert 5_000 < float(query.abs().max()) < 7_000
    assert torch.equal(mask, top_k(query.float().norm(dim=-1), 4))
    assert logits(model, tokens(1, 20)).isfinite().all()


@pytest.mark.parametrize("router", ["learned", "query_norm"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_overflow_is_told_by_name(router: str, value: float) -> None:
    """A NaN or an infinity that comes in is no choice of heads."""
    model = routed_decoder(dense_decoder("llama"), FREE, router=router)
    with torch.no_grad():
        model.model.embed_tokens.weight[5, 0] = value
    with pytest.raises(UserError, match="cannot route"):
        logits(model, torch.tensor([[4, 5, 6]]))


def test_layers_of_local_and_of_global_attention_see_different_keys() -> None:
    """Qwen2 with a window of six from its second layer on: transformers passes two masks in turn."""
    dense = dense_decoder("qwen2", use_sliding_window=True, sliding_window=6, max_window_layers=1)
    assert dense.config.layer_types == ["full_attention", "sliding_attention", "sliding_attention"]
    ids = tokens(2, 25)
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    real = mask.bool()
    everything = HeadLayout(query_heads=HEADS, kv_groups=GROUPS, shared=(), active=HEADS)
    wanted = logits(dense, ids, attention_mask=mask)[real]
    found = logits(routed_decoder(dense, everything), ids, attention_mask=mask)[real]
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5
    model = routed_decoder(dense, FREE, router="query_norm")
    with using("reference"):
        wanted = logits(model, ids, attention_mask=mask)[real]
    with using("gathered"):
        found = logits(model, ids, attention_mask=mask)[real]
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5


def test_pruned_heads_are_as_if_their_part_of_the_output_were_zero() -> None:
    """Against the dense model whose output projection has zeros for the heads that are gone; no tokens choose."""
    dense = dense_decoder("llama")
    model = routed_decoder(dense, "pruned", router="learned")
    with torch.no_grad():
        for layer in dense.model.layers:
            layer.self_attn.o_proj.weight.view(-1, HEADS, 16)[:, [1, 3, 4, 6, 7]] = 0
    ids = tokens(2, 14)
    assert torch.allclose(logits(model, ids), logits(dense, ids), atol=1e-5)
    assert not any(".router." in name for name, _ in model.named_parameters())


@pytest.mark.parametrize("layout", ["free", "one of each group", "groups"])
@pytest.mark.filterwarnings("ignore:a token picks one")
def test_zero_routers_take_the_first_heads_with_gates_of_one(layout: str) -> None:
    """So a fresh learned router is the dense model without the last routed heads of every choice."""
    dense = dense_decoder("llama")
    model = routed_decoder(dense, layout, router="learned", draw_router=False)
    gone = {"free": [4, 5, 6, 7], "one of each group": [3, 7], "groups": [4, 5, 6, 7]}[layout]
    with torch.no_grad():
        for layer in dense.model.layers:
            layer.self_attn.o_proj.weight.view(-1, HEADS, 16)[:, gone] = 0
    ids = tokens(2, 14)
    assert torch.allclose(logits(model, ids), logits(dense, ids), atol=1e-5)


def test_an_unknown_attention_is_refused_by_what_it_lacks() -> None:
    """Joined projections, as GPT-2 and Phi-3 have, or heads of another number."""
    settings = MoHSettings(layers=(FREE,))
    parts: dict[str, Any] = {"sight": Sight(), "balance": MoHBalance(0.01, 1)}
    joined = nn.Module()
    joined.qkv_proj = nn.Linear(64, 192)
    with pytest.raises(UserError, match="not laid out as known"):
        MoHAttention(joined, FREE, settings, **parts)
    attention = dense_decoder("llama").model.layers[0].self_attn
    other = HeadLayout(query_heads=16, kv_groups=2, shared=(), active=8)
    with pytest.raises(UserError, match="q_proj does not fit"):
        MoHAttention(attention, other, settings, **parts)


def test_a_layer_alone_asks_for_its_places() -> None:
    model = routed_decoder(dense_decoder("llama"), FREE, router="query_norm")
    with pytest.raises(UserError, match="needs its places"):
        model.model.layers[0].self_attn(torch.zeros(1, 3, 64))


def test_the_balance_of_layers_is_their_mean() -> None:
    balance = MoHBalance(0.3, 3)
    assert balance.mean() is None
    assert balance.layer_coefficient == pytest.approx(0.1)
    balance.values.update({0: torch.tensor(2.0), 2: torch.tensor(3.0)})
    assert balance.mean() == torch.tensor(2.5)
    assert MoHBalance(0.3, 0).layer_coefficient == 0.3


def test_a_config_without_heads_builds_no_model() -> None:
    from transformers import AutoModelForCausalLM

    from strop.heads.modeling.families import config_class

    config = config_class("llama")(**{"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2})
    assert config.moh == {}
    with pytest.raises(UserError, match="says nothing of its heads"):
        AutoModelForCausalLM.from_config(config)
    with pytest.raises(UserError, match="cannot be converted"):
        config_class("vit")
