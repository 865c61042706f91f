"""A model that names no backend takes the one that this machine was measured to be faster with, and dense ones else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import strop.heads  # noqa: F401  # makes the converted types known to transformers
from routed_decoders import dense_decoder, logits, routed_decoder, tokens
from strop.heads import choosing
from strop.heads.attention import using
from strop.heads.choosing import Cell, Passes, Size, Table
from strop.heads.modeling.attention import MoHAttention

WAYS = {"_all_heads": "all", "_chosen_heads": "chosen", "_one_token": "one token"}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which way the layers go, in order."""
    ways: list[str] = []
    for name, way in WAYS.items():
        own = getattr(MoHAttention, name)

        def noted(self: Any, *given: Any, own: Any = own, way: str = way, **named: Any) -> Any:
            ways.append(way)
            return own(self, *given, **named)

        monkeypatch.setattr(MoHAttention, name, noted)
    return ways


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return what keeps a table of this machine in a cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def keep(*passes: Passes) -> None:
        cells = [Cell(Size(each, True, 1, 0.9), {"gathered": 2.0}) for each in passes]
        threads = torch.get_num_threads()
        choosing.write_table(Table("this machine", tuple(cells)), choosing.table_path(threads))

    keep()
    yield keep
    monkeypatch.undo()
    choosing.table_here.cache_clear()
    choosing._chosen.cache_clear()


@pytest.mark.parametrize(("router", "passes"), [("learned", "layer forward"), ("query_norm", "forward")])
def test_long_enough_texts_go_by_chosen_heads(measured: Any, taken: list[str], router: str, passes: Passes) -> None:
    """A query-norm router needs every query, so only what attention alone gains counts."""
    model = routed_decoder(dense_decoder("llama"), "one of each group", router=router)
    ids = tokens(2, 64)
    wanted = logits(model, ids)
    assert set(taken) == {"all"}
    taken.clear()
    measured(passes)
    found = logits(model, ids)
    assert set(taken) == {"chosen"}
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5


def test_training_is_measured_for_itself(measured: Any, taken: list[str]) -> None:
    model = routed_decoder(dense_decoder("llama"), "one of each group", router="learned")
    measured("layer training")
    model(input_ids=tokens(1, 64), use_cache=False).logits.sum().backward()
    assert set(taken) == {"chosen"}
    taken.clear()
    logits(model, tokens(1, 64))
    assert set(taken) == {"all"}


def test_all_heads_are_computed_where_only_that_is_right(measured: Any, taken: list[str]) -> None:
    """With every head on, with exact gradients, with gaps in the mask; the rest could go either way."""
    measured("forward", "training", "layer forward", "layer training")
    gaps = torch.ones(12, 12, dtype=torch.bool).tril()[None, None].clone()
    gaps[..., 5:, 2] = False
    model = routed_decoder(dense_decoder("llama"), "free", router="query_norm", straight_through="exact")
    logits(model, tokens(1, 12), attention_mask=gaps)
    model(input_ids=tokens(1, 12), use_cache=False)
    assert set(taken) == {"all"}
    taken.clear()
    logits(model, tokens(1, 12))
    assert set(taken) == {"chosen"}


def test_one_token_is_decoded_by_the_backend_that_is_named(taken: list[str]) -> None:
    from transformers import DynamicCache

    model = routed_decoder(dense_decoder("llama"), "groups", router="query_norm")
    for backend, way in (("gathered", "one token"), ("reference", "all")):
        cache = DynamicCache(config=model.config)
        with using(backend), torch.no_grad():
            model(tokens(1, 8), past_key_values=cache, use_cache=True)
            taken.clear()
            model(tokens(1, 1), past_key_values=cache, use_cache=True)
        assert set(taken) == {way}
