"""One token after another behind a cache, with the chosen heads only: by every backend what the full pass gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import strop.heads  # noqa: F401  # makes the converted types known to transformers
from routed_decoders import GROUPS, HEADS, dense_decoder, logits, routed_decoder, tokens
from strop.heads.attention import using
from strop.heads.backends import native
from strop.heads.layout import HeadLayout

NEW = 7
GREEDY: dict[str, Any] = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
ALL_ON = HeadLayout(query_heads=HEADS, kv_groups=GROUPS, shared=(), active=HEADS)


def backends() -> list[Any]:
    reason = native.available()
    return ["auto", "gathered", pytest.param("native", marks=pytest.mark.skipif(bool(reason), reason=str(reason)))]


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("family", ["llama", "mistral"])
@pytest.mark.parametrize("layout", ["groups", "free", "one of each group", "pruned"])
@pytest.mark.parametrize("router", ["learned", "query_norm"])
@pytest.mark.filterwarnings("ignore:a token picks one")
def test_decoding_is_the_full_pass(backend: str, family: str, layout: str, router: str) -> None:
    """A prompt of 13 tokens, then one by one; one row is padded on the left. Mistral's window of 12 moves on."""
    from transformers import DynamicCache

    model = routed_decoder(dense_decoder(family), layout, router=router)
    ids = tokens(2, 19)
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    places = (mask.cumsum(1) - 1).clamp(min=0)
    with using("reference"):
        wanted = logits(model, ids, attention_mask=mask, position_ids=places)
    cache = DynamicCache(config=model.config)
    found = []
    with using(backend), torch.no_grad():
        for first, stop in [(0, 13), *((place, place + 1) for place in range(13, 19))]:
            part = {"input_ids": ids[:, first:stop], "position_ids": places[:, first:stop]}
            found.append(model(**part, attention_mask=mask[:, :stop], past_key_values=cache, use_cache=True).logits)
    real = mask.bool()
    difference = (torch.cat(found, 1)[real] - wanted[real]).abs().max() / wanted[real].abs().max()
    assert float(difference) < 1e-5


@pytest.mark.parametrize("how", [{}, {"cache_implementation": "static"}, {"num_beams": 3}], ids=str)
@pytest.mark.parametrize("layout", ["groups", "one of each group"])
def test_a_padded_prompt_in_a_batch_goes_on_as_it_does_alone(layout: str, how: dict[str, Any]) -> None:
    """Prompts of 9 and 5 tokens."""
    model = routed_decoder(dense_decoder("llama"), layout, router="query_norm")
    long, short = tokens(1, 9), tokens(1, 5, seed=1)
    both = torch.cat([long, torch.cat([torch.zeros(1, 4, dtype=torch.long), short], 1)])
    mask = torch.ones_like(both)
    mask[1, :4] = 0
    with using("gathered"):
        together = model.generate(both, attention_mask=mask, **GREEDY, **how)
        alone = [model.generate(ids, attention_mask=torch.ones_like(ids), **GREEDY, **how) for ids in (long, short)]
    assert torch.equal(together[0, 9:], alone[0][0, 9:])
    assert torch.equal(together[1, 9:], alone[1][0, 5:])


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_beams_are_the_dense_models_with_every_head_on(family: str) -> None:
    dense = dense_decoder(family)
    model = routed_decoder(dense, ALL_ON, router="query_norm")
    ids = tokens(2, 6)
    assert torch.equal(model.generate(ids, num_beams=4, **GREEDY), dense.generate(ids, num_beams=4, **GREEDY))


def test_unread_groups_may_hold_anything() -> None:
    """The cache of a group that a token left out is never read: NaN there changes nothing."""
    from transformers import DynamicCache

    layout = HeadLayout(query_heads=HEADS, kv_groups=GROUPS, shared=(0, 1, 2, 3), active=0, choice="groups")
    model = routed_decoder(dense_decoder("llama"), layout, router="query_norm")
    ids = tokens(1, 12)
    cache: Any = DynamicCache(config=model.config)
    with torch.no_grad(), using("gathered"):
        model(ids[:, :11], past_key_values=cache, use_cache=True)
        for layer in cache.layers:
            layer.keys[:, 1], layer.values[:, 1] = float("nan"), float("nan")
        found = model(ids[:, 11:], past_key_values=cache, use_cache=True).logits
    assert torch.allclose(found[0, 0], logits(model, ids)[0, -1], atol=1e-5)


def test_a_gradient_through_one_token_behind_a_cache() -> None:
    """As in training on the last token of a cached prompt: all backends give the reference's gradient."""
    from transformers import DynamicCache

    found = {}
    for backend in ("reference", "gathered", "auto"):
        model = routed_decoder(dense_decoder("llama"), "free", router="query_norm")
        cache = DynamicCache(config=model.config)
        with using(backend):
            with torch.no_grad():
                model(tokens(1, 9)[:, :8], past_key_values=cache, use_cache=True)
            model(tokens(1, 9)[:, 8:], past_key_values=cache, use_cache=True).logits.square().mean().backward()
        found[backend] = model.model.layers[0].self_attn.q_proj.weight.grad
    largest = float(found["reference"].abs().max())
    assert largest > 0
    for backend in ("gathered", "auto"):
        assert float((found[backend] - found["reference"]).abs().max()) < 1e-5 * largest
