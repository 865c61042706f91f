"""Routed decoders of every family: equal to the dense one with all heads on, and to themselves however they are run."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

import strop.heads  # noqa: F401  # makes the converted types known to transformers
from routed_decoders import (
    FAMILIES,
    GROUPS,
    HEADS,
    LAYOUTS,
    dense_config,
    dense_decoder,
    logits,
    routed_decoder,
    tokens,
)
from strop.errors import UserError
from strop.heads.attention import using
from strop.heads.layout import HeadLayout

ROUTERS = ("learned", "query_norm")
ALL_ON = HeadLayout(query_heads=HEADS, kv_groups=GROUPS, shared=(), active=HEADS)


@pytest.fixture(params=FAMILIES)
def dense(request: pytest.FixtureRequest) -> Any:
    return dense_decoder(request.param)


def apart(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().max() / second.abs().max())


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("backend", ["reference", "gathered"])
def test_all_heads_on_is_the_dense_model(dense: Any, router: str, backend: str) -> None:
    model = routed_decoder(dense, ALL_ON, router=router, backend=backend)
    ids = tokens(2, 21)
    mask = torch.ones_like(ids)
    mask[1, :5] = 0
    real = mask.bool()
    assert torch.equal(logits(model, ids), logits(dense, ids))
    assert apart(logits(model, ids, attention_mask=mask)[real], logits(dense, ids, attention_mask=mask)[real]) < 1e-6


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_sparse_is_the_reference(dense: Any, layout: str, router: str) -> None:
    """Also with padding, and unlike the dense model: the heads that are off matter."""
    model = routed_decoder(dense, layout, router=router)
    ids = tokens(2, 21)
    mask = torch.ones_like(ids)
    mask[1, :5] = 0
    with using("reference"):
        wanted = logits(model, ids, attention_mask=mask)
    with using("gathered"):
        found = logits(model, ids, attention_mask=mask)
    real = mask.bool()
    assert apart(found[real], wanted[real]) < 1e-5
    assert apart(wanted[real], logits(dense, ids, attention_mask=mask)[real]) > 1e-2


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("layout", ["first half", "one of each group"])
@pytest.mark.parametrize("chunk", [1, 3, 16])
@pytest.mark.parametrize("static", [False, True])
def test_cached_chunks_are_the_full_pass(dense: Any, layout: str, router: str, chunk: int, static: bool) -> None:
    """A static cache of 40 places passes no mask for its first chunk, and keys that are not written yet."""
    from transformers import DynamicCache, StaticCache

    model = routed_decoder(dense, layout, router=router)
    ids = tokens(2, 23)
    cache: Any = StaticCache(config=model.config, max_cache_len=40) if static else DynamicCache(config=model.config)
    with torch.no_grad():
        parts = [model(part, past_key_values=cache, use_cache=True).logits for part in torch.split(ids, chunk, dim=1)]
    assert apart(torch.cat(parts, 1), logits(model, ids)) < 1e-5


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("layout", ["free", "one of each group", "groups"])
def test_rows_padding_prefix_and_order_change_nothing(dense: Any, layout: str, router: str) -> None:
    model = routed_decoder(dense, layout, router=router)
    ids = tokens(3, 17)
    together = logits(model, ids)
    assert apart(logits(model, ids[1:2])[0], together[1]) < 1e-5
    assert apart(logits(model, ids.flip(0)).flip(0), together) < 1e-5
    assert apart(logits(model, ids[:, :9]), together[:, :9]) < 1e-5
    padding = torch.zeros(3, 6, dtype=torch.long)
    mask = torch.cat([padding, torch.ones_like(ids)], 1)
    places = (mask.cumsum(1) - 1).clamp(min=0)
    padded = logits(model, torch.cat([padding, ids], 1), attention_mask=mask, position_ids=places)
    assert apart(padded[:, 6:], together) < 1e-5


@pytest.mark.parametrize("layout", ["free", "one of each group"])
def test_packed_sequences_do_not_see_each_other(dense: Any, layout: str) -> None:
    """Places that begin again tell transformers where a document begins; it passes their mask."""
    model = routed_decoder(dense, layout, router="query_norm")
    first, second = tokens(1, 9), tokens(1, 14, seed=1)
    places = torch.cat([torch.arange(9), torch.arange(14)])[None]
    packed = logits(model, torch.cat([first, second], 1), position_ids=places)
    assert apart(packed[:, :9], logits(model, first)) < 1e-5
    assert apart(packed[:, 9:], logits(model, second)) < 1e-5


def test_a_mask_with_gaps_is_obeyed(dense: Any) -> None:
    """Every token sees itself and the even places before it, except the second, which sees nothing."""
    place = torch.arange(15)
    mask_nt = (place <= place[:, None]) & ((place % 2 == 0) | (place == place[:, None]))
    mask_nt[1] = False
    mask = mask_nt[None, None].expand(2, 1, 15, 15)
    ids = tokens(2, 15)
    seen = place != 1
    model = routed_decoder(dense, ALL_ON, router="query_norm")
    wanted = logits(dense, ids, attention_mask=mask)[:, seen]
    assert apart(logits(model, ids, attention_mask=mask)[:, seen], wanted) < 1e-5
    routed = routed_decoder(dense, "free", router="query_norm").train()
    loss = routed(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, seen].square().mean()
    loss.backward()
    assert all(weight.grad is None or bool(weight.grad.isfinite().all()) for weight in routed.parameters())


@pytest.mark.parametrize("layout", ["first half", "one of each group", "groups"])
@pytest.mark.parametrize("how", [{}, {"num_beams": 3}, {"cache_implementation": "static"}], ids=str)
def test_generation_is_the_full_pass(dense: Any, layout: str, how: dict[str, Any]) -> None:
    """Greedy tokens are the likeliest of the full pass; beams reorder the cache, and score as without a cache."""
    model = routed_decoder(dense, layout, router="query_norm")
    ids = tokens(2, 8)
    named: dict[str, Any] = {"max_new_tokens": 9, "do_sample": False, "eos_token_id": None, "pad_token_id": 0, **how}
    found = model.generate(ids, **named)
    if how.get("num_beams"):
        assert torch.equal(found, model.generate(ids, use_cache=False, **named))
        return
    assert torch.equal(found[:, 8:], logits(model, found)[:, 7:-1].argmax(-1))


def test_routing_is_in_float32_whatever_the_models_type() -> None:
    """bfloat16 queries: each layer picks what float32 norms of the same queries pick."""
    from strop.heads.gates import top_k

    model = routed_decoder(dense_decoder("llama"), "free", router="query_norm").bfloat16()
    layer = model.model.layers[0].self_attn
    seen: list[tuple[Tensor, Tensor]] = []
    layer.router.register_forward_hook(lambda _m, given, made: seen.append((given[0], made.mask_bnh)))
    logits(model, tokens(2, 40))
    query, mask = seen[0]
    assert query.dtype == torch.bfloat16
    assert torch.equal(mask, top_k(query.float().norm(dim=-1), 4))


def test_qwen3_routes_before_it_normalises() -> None:
    """With all weights of q_norm equal every normalised query is equally long; the choice still differs by token."""
    model = routed_decoder(dense_decoder("qwen3"), "free", router="query_norm")
    layer = model.model.layers[0].self_attn
    masks: list[Tensor] = []
    layer.router.register_forward_hook(lambda _m, _given, made: masks.append(made.mask_bnh))
    logits(model, tokens(1, 40))
    assert len({tuple(row.tolist()) for row in masks[0][0]}) > 5


@pytest.mark.parametrize("how", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_share_nothing_and_share_among_their_layers(how: Any) -> None:
    model = routed_decoder(dense_decoder("llama"), "free", router="query_norm")
    ids = tokens(2, 9)
    wanted = logits(model, ids, attention_mask=torch.ones_like(ids))
    twin = how(model)
    assert torch.equal(logits(twin, ids), wanted)
    assert twin.moh_balance is not model.moh_balance
    assert all(layer.self_attn.balance is twin.moh_balance for layer in twin.model.layers)


def test_a_mask_that_was_written_to_is_looked_at_again() -> None:
    model = routed_decoder(dense_decoder("llama"), "free", router="query_norm")
    ids = tokens(1, 9)
    mask = torch.ones(9, 9, dtype=torch.bool).tril()[None, None]
    before = logits(model, ids, attention_mask=mask)
    mask[..., 4:, :3] = False
    after = logits(model, ids, attention_mask=mask)
    assert apart(after[:, :4], before[:, :4]) == 0.0
    assert apart(after[:, 4:], before[:, 4:]) > 1e-3


def test_adapters_on_the_projections_are_not_passed_by() -> None:
    """LoRA wraps q_proj and o_proj: the sparse path must use the wrapped layers, as the reference does."""
    from peft import LoraConfig, get_peft_model

    for router in ROUTERS:
        model = routed_decoder(dense_decoder("llama"), "one of each group", router=router)
        ids = tokens(2, 12)
        bare = logits(model, ids)
        adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "o_proj"], init_lora_weights=False))
        adapted.eval()
        with using("reference"):
            wanted = logits(adapted, ids)
        with using("gathered"):
            found = logits(adapted, ids)
        assert apart(wanted, bare) > 1e-3
        assert apart(found, wanted) < 1e-5


def test_dropout_in_attention_is_refused() -> None:
    dense = dense_decoder("llama", attention_dropout=0.1)
    with pytest.raises(UserError, match="dropout"):
        routed_decoder(dense, "free")


@pytest.mark.parametrize("implementation", ["flash_attention_2", "flex_attention"])
def test_attention_that_passes_no_masks_is_refused(implementation: str) -> None:
    model = routed_decoder(dense_decoder("llama"), "free")
    with pytest.raises((ValueError, ImportError)):
        type(model)._from_config(model.config, attn_implementation=implementation)


def test_eager_masks_are_read_too() -> None:
    """Additive masks: the lowest number where a key is hidden."""
    dense = dense_decoder("mistral")
    model = routed_decoder(dense, "free", router="query_norm")
    ids = tokens(2, 21)
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    wanted = logits(model, ids, attention_mask=mask)
    model.set_attn_implementation("eager")
    assert apart(logits(model, ids, attention_mask=mask)[mask.bool()], wanted[mask.bool()]) < 1e-5


def test_the_window_of_mistral_hides_far_keys() -> None:
    """With twelve visible tokens the first of thirty cannot reach the last in one layer of three; in a fourth it could.

    Changing token 0 changes nothing from place 3 x 11 + 1 = 34 on.
    """
    model = routed_decoder(dense_decoder("mistral"), "free", router="query_norm")
    assert dense_config("mistral").sliding_window == 12
    ids = tokens(1, 40)
    changed = ids.clone()
    changed[0, 0] = (ids[0, 0] + 1) % 50 + 3
    first, second = logits(model, ids), logits(model, changed)
    assert torch.equal(first[:, 34:], second[:, 34:])
    assert not torch.equal(first[:, :33], second[:, :33])
