"""Which keys each token sees, read off the masks that transformers passes."""

from __future__ import annotations

import copy
import gc
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from routed_decoders import dense_config
from strop.heads.modeling.sight import Seen, Sight

CPU = torch.device("cpu")


def look(mask: Tensor | None, *, batch: int = 1, queries: int, keys: int) -> Seen:
    return Sight().of(mask, batch=batch, queries=queries, keys=keys, device=CPU)


def spans(seen: Seen) -> list[list[tuple[int, int]]]:
    """First and last key of each query, row by row."""
    assert seen.visible is not None
    rows = zip(seen.visible.first_bn.tolist(), seen.visible.last_bn.tolist(), strict=True)
    return [list(zip(first, last, strict=True)) for first, last in rows]


def test_without_a_mask_tokens_see_what_came_before() -> None:
    """Three tokens; one token behind four keys; two tokens at the start of a cache of five places."""
    assert spans(look(None, queries=3, keys=3)) == [[(0, 0), (0, 1), (0, 2)]]
    assert spans(look(None, queries=1, keys=5)) == [[(0, 4)]]
    assert spans(look(None, queries=2, keys=5)) == [[(0, 0), (0, 1)]]


@pytest.mark.parametrize("additive", [False, True])
def test_padding_at_either_end_sees_nothing(additive: bool) -> None:
    """Rows `pp12` and `12pp`: the padding on the right sees real keys in transformers' mask, and counts as padding."""
    real = torch.tensor([[0, 0, 1, 1], [1, 1, 0, 0]], dtype=torch.bool)
    mask = (real[:, None, :] & torch.ones(4, 4, dtype=torch.bool).tril())[:, None]
    if additive:
        mask = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    seen = look(mask, batch=2, queries=4, keys=4)
    assert [[pair for pair in row if pair[0] <= pair[1]] for row in spans(seen)] == [
        [(2, 2), (2, 3)],
        [(0, 0), (0, 1)],
    ]
    assert seen.real_bn is not None
    assert torch.equal(seen.real_bn, real)


def test_a_mask_of_keys_alone_is_read_as_causal() -> None:
    """Two dimensions, 1 for real keys, as FlashAttention gets it; also behind a cache."""
    keys = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])
    assert spans(look(keys, batch=2, queries=2, keys=4)) == [[(1, 2), (1, 3)], [(0, 2), (0, 3)]]
    whole = look(keys, batch=2, queries=4, keys=4)
    assert spans(whole)[1] == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert whole.real_bn is not None
    assert whole.real_bn.tolist() == [[False, True, True, True], [True] * 4]


def test_a_static_cache_passes_more_keys_than_there_are() -> None:
    """Two tokens at places 3 and 4 of a cache of eight; one mask for both rows."""
    mask = torch.arange(8)[None] <= torch.tensor([[3], [4]])
    assert spans(look(mask[None, None], batch=2, queries=2, keys=8)) == [[(0, 3), (0, 4)]] * 2
    # A mask may be longer than the keys that the cache gives back.
    longer = torch.cat([mask, torch.zeros(2, 3, dtype=torch.bool)], 1)
    assert spans(look(longer[None, None], queries=2, keys=8)) == [[(0, 3), (0, 4)]]


def test_windows_and_documents_are_intervals() -> None:
    """A window of two keys; documents of two and three tokens in one row."""
    place = torch.arange(5)
    causal = place <= place[:, None]
    window = causal & (place > place[:, None] - 2)
    assert spans(look(window[None, None], queries=5, keys=5)) == [[(0, 0), (0, 1), (1, 2), (2, 3), (3, 4)]]
    document = torch.tensor([0, 0, 1, 1, 1])
    packed = causal & (document == document[:, None])
    assert spans(look(packed[None, None], queries=5, keys=5)) == [[(0, 0), (0, 1), (2, 2), (2, 3), (2, 4)]]


def test_a_gap_keeps_the_mask_itself() -> None:
    mask = torch.ones(4, 4, dtype=torch.bool).tril()[None, None].clone()
    mask[..., 3, 1] = False
    seen = look(mask, queries=4, keys=4)
    assert seen.visible is None
    assert seen.mask_b1nt is not None
    assert torch.equal(seen.mask_b1nt, mask)


def test_a_plain_causal_mask_is_known_to_be_one() -> None:
    """Then torch's causal kernel serves it."""
    mask = torch.ones(2, 1, 4, 4, dtype=torch.bool).tril()
    seen = look(mask, batch=2, queries=4, keys=4)
    assert seen.visible is not None
    assert seen.visible.causal
    assert seen.real_bn is None


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_mask_is_given_back_by_its_intervals_or_itself(data: Any) -> None:
    """For tokens that are real; behind a cache all are taken as real."""
    keys = data.draw(st.integers(1, 6))
    queries = data.draw(st.integers(1, keys))
    bits = data.draw(st.lists(st.booleans(), min_size=queries * keys, max_size=queries * keys))
    mask = torch.tensor(bits).view(1, 1, queries, keys)
    seen = look(mask, queries=queries, keys=keys)
    found = seen.mask_b1nt if seen.visible is None else seen.visible.mask_bnt()[:, None]
    assert found is not None
    real = torch.ones(1, queries, dtype=torch.bool) if seen.real_bn is None else seen.real_bn
    assert torch.equal(found[:, 0][real], mask[:, 0][real])
    assert not found[:, 0][~real].any()


@pytest.mark.parametrize("family", ["llama", "mistral"])
@pytest.mark.parametrize("padding", ["left", "right", "none"])
def test_transformers_own_masks_are_read(family: str, padding: str) -> None:
    """What its mask functions build for 16 tokens, four of them padding, is what a plain rule gives.

    Mistral's tokens see the last twelve keys.
    """
    from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask

    config = dense_config(family)
    config._attn_implementation = "sdpa"
    real = torch.ones(2, 16, dtype=torch.long)
    if padding != "none":
        real[1, slice(0, 4) if padding == "left" else slice(12, 16)] = 0
    build: Any = create_sliding_window_causal_mask if family == "mistral" else create_causal_mask
    mask = build(
        config=config,
        inputs_embeds=torch.zeros(2, 16, 64),
        attention_mask=real,
        past_key_values=None,
        position_ids=torch.arange(16)[None].expand(2, -1),
    )
    seen = look(mask, batch=2, queries=16, keys=16)
    assert seen.visible is not None
    place = torch.arange(16)
    wanted = (place <= place[:, None])[None] & real.bool()[:, None, :] & real.bool()[:, :, None]
    if family == "mistral":
        wanted = wanted & (place > place[:, None] - 12)
    assert torch.equal(seen.visible.mask_bnt(), wanted)


def test_an_answer_serves_the_layers_of_one_pass_only() -> None:
    sight = Sight()

    def of(mask: Tensor | None, queries: int = 4) -> Seen:
        return sight.of(mask, batch=1, queries=queries, keys=queries, device=CPU)

    local = torch.ones(1, 1, 4, 4, dtype=torch.bool).tril()
    everywhere = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    first, second = of(local), of(everywhere)
    assert of(local) is first
    assert of(everywhere) is second
    local[..., 3, 0] = False
    assert of(local) is not first
    assert of(None) is not first
    # Another tensor at the same address is another mask.
    del local
    gc.collect()
    assert of(torch.ones(1, 1, 4, 4, dtype=torch.bool).tril()) is not first


def test_copies_have_seen_nothing() -> None:
    sight = Sight()
    mask = torch.ones(1, 1, 4, 4, dtype=torch.bool).tril()
    sight.of(mask, batch=1, queries=4, keys=4, device=CPU)
    assert copy.deepcopy(sight)._last == ()


def test_masks_of_inference_mode_are_read() -> None:
    with torch.inference_mode():
        mask = torch.ones(1, 1, 4, 4, dtype=torch.bool).tril()
        seen = look(mask, queries=4, keys=4)
    assert seen.visible is not None
    assert seen.visible.causal
