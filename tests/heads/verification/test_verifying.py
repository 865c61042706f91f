"""Every check passes on what a conversion makes and fails on a model with just that defect."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import strop.heads  # noqa: F401  # makes the converted types known to transformers
from routed_decoders import FAMILIES, LAYERS, LAYOUTS, dense_decoder, logits, routed_decoder, tokens
from strop.errors import UserError
from strop.heads.conversion import convert
from strop.heads.importance import gradient_importance
from strop.heads.modeling import load
from strop.heads.modeling.variants import dense_twin, with_layouts
from strop.heads.requested import Request, settings_for
from strop.heads.routing import Routing
from strop.heads.verification import checks, verify
from strop.heads.verification.dropping import drops, loss
from strop.heads.verification.running import logits_of
from strop.heads.verification.verifying import STEPS

IDS = tokens(3, 24)


def routed(layout: str = "one of each group", family: str = "llama", **settings: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return routed_decoder(dense_decoder(family), layout, **settings)


def rerouted(model: Any, change: Any) -> Any:
    """Let every router's decision be changed by a function of the routing and the router's input."""

    def hook(_module: Any, given: tuple[Tensor], routing: Routing) -> Routing:
        changed: Routing = change(routing, given[0])
        return changed

    for layer in model.model.layers:
        layer.self_attn.router.register_forward_hook(hook)
    return model


def other_heads(routing: Routing, where_bn: Tensor) -> Routing:
    """Give some tokens the heads that they did not choose, without gates."""
    mask_bnh = torch.where(where_bn[..., None], routing.mask_bnh.flip(-1), routing.mask_bnh)
    return replace(routing, mask_bnh=mask_bnh, gate_bnh=None)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("router", ["learned", "query_norm"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_converted_model_passes(family: str, layout: str, router: str) -> None:
    model = routed(layout, family, router=router)
    full = logits_of(model, IDS)
    found = [
        checks.identity(model, IDS, None),
        *checks.cached(model, IDS, full),
        checks.padded(model, IDS, full),
        checks.independent(model, IDS, full),
        *checks.gates(model, IDS),
        *checks.backends(model, IDS),
    ]
    assert [check for check in found if check.passed is False] == []
    assert sum(check.passed is True for check in found) >= 9


def test_what_rounding_explains_is_bounded_and_measuring_it_changes_nothing() -> None:
    """Three layers round by about 3e-6; a model that routes otherwise in float64 gets 1e-4 at most."""
    model = routed()
    before = logits_of(model, IDS)
    assert checks.LIMIT <= checks.rounding_limit(model, IDS) < 2 * checks.LIMIT
    assert torch.equal(logits_of(model, IDS), before)
    wild = rerouted(
        routed("first half"),
        lambda made, hidden: other_heads(made, torch.full(made.mask_bnh.shape[:2], hidden.dtype == torch.float64)),
    )
    assert checks.rounding_limit(wild, IDS) == checks.LARGEST


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_papers_gates_pass(layout: str) -> None:
    assert all(check.passed for check in checks.gates(routed(layout, gates="paper"), IDS))


def test_another_scale_fails_the_identity() -> None:
    model = routed()
    model.model.layers[1].self_attn.scaling *= 1.1
    assert checks.identity(model, IDS, None).passed is False


def test_routing_by_place_in_the_pass_fails_caches_and_padding() -> None:
    """Tokens at even places of a pass get other heads: what is even depends on the chunk and on the padding."""
    model = rerouted(
        routed("first half"),
        lambda made, _: other_heads(
            made, (torch.arange(made.mask_bnh.shape[1]) % 2 == 0).expand(made.mask_bnh.shape[:2])
        ),
    )
    full = logits_of(model, IDS)
    failed = [check.name for check in checks.cached(model, IDS, full) if check.passed is False]
    assert "with a cache, chunks of 1, equals the full pass" in failed
    assert checks.padded(model, IDS, full).passed is False
    assert checks.independent(model, IDS, full).passed is True


def test_routing_by_the_row_fails_the_independence_of_rows() -> None:
    model = rerouted(
        routed("first half"),
        lambda made, _: other_heads(
            made, (torch.arange(made.mask_bnh.shape[0]) > 0)[:, None].expand(made.mask_bnh.shape[:2])
        ),
    )
    assert checks.independent(model, IDS, logits_of(model, IDS)).passed is False


def test_a_head_too_many_or_a_wrong_gate_is_counted() -> None:
    def one_more(made: Routing, _: Tensor) -> Routing:
        mask_bnh = made.mask_bnh.clone()
        mask_bnh[0, 3] = True
        return replace(made, mask_bnh=mask_bnh)

    def doubled(made: Routing, _: Tensor) -> Routing:
        assert made.gate_bnh is not None
        return replace(made, gate_bnh=made.gate_bnh * 2)

    count, values = checks.gates(rerouted(routed(), one_more), IDS)
    assert (count.passed, values.passed) == (False, True)
    assert count.detail.startswith(f"{LAYERS} wrong")
    count, values = checks.gates(rerouted(routed(), doubled), IDS)
    assert (count.passed, values.passed) == (True, False)


def test_a_backend_that_is_off_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    from strop.heads.backends import gathered

    attend = gathered.attend
    monkeypatch.setattr(gathered, "attend", lambda *given, **named: attend(*given, **named) * 1.01)
    found = {check.name: check.passed for check in checks.backends(routed(), IDS)}
    assert found["gathered equals the reference"] is False


def test_weights_that_are_kept_changed_or_missing(tmp_path: Path) -> None:
    """Changed ones were trained, which is no failure; a missing one is."""
    dense_decoder("llama").save_pretrained(tmp_path / "dense")
    convert(tmp_path / "dense", settings_for(tmp_path / "dense", Request(active=0.5)), tmp_path / "moh")
    assert checks.weights_kept(tmp_path / "moh", tmp_path / "dense").passed is True
    model: Any = load(tmp_path / "moh")
    model.model.norm.weight.data += 1
    model.save_pretrained(tmp_path / "trained")
    changed = checks.weights_kept(tmp_path / "trained", tmp_path / "dense")
    assert changed.passed is None
    assert changed.detail.startswith("1 of")
    dense_decoder("llama", num_hidden_layers=LAYERS + 1).save_pretrained(tmp_path / "deeper")
    assert checks.weights_kept(tmp_path / "moh", tmp_path / "deeper").passed is False


def test_the_twin_is_transformers_own_model_on_the_same_memory() -> None:
    dense = dense_decoder("qwen2")
    twin = dense_twin(routed_decoder(dense, "free"))
    assert type(twin) is type(dense)
    assert torch.equal(logits(twin, IDS), logits(dense, IDS))


def test_other_layouts_last_as_long_as_the_context() -> None:
    model = routed("free")
    before = logits(model, IDS)
    with with_layouts(model, [replace(layout, active=8) for layout in model.moh_settings.layers]):
        assert not torch.allclose(logits(model, IDS), before, atol=1e-3)
    assert torch.equal(logits(model, IDS), before)


def test_losses_are_transformers_own_and_the_table_holds_every_choice() -> None:
    """The dense loss against transformers'; importance is measured on the dense weights."""
    dense = dense_decoder("llama")
    model = routed_decoder(dense, "one of each group", router="query_norm")
    measuring = [tokens(1, 30, seed=seed) for seed in (5, 6)]
    weighing = [tokens(1, 30, seed=seed) for seed in (7, 8)]
    found = {drop.shared: drop for drop in drops(model, weighing, measuring)}
    both = [dense(input_ids=ids, labels=ids).loss.item() for ids in measuring]
    assert found["dense model"].loss == pytest.approx(sum(both) / 2, rel=1e-5)
    assert found["this model"].loss == pytest.approx(found["one of each group"].loss, rel=1e-6)
    assert all(drop.drop is not None and drop.active == 0.75 for name, drop in found.items() if name != "dense model")
    assert len(found) == 6
    table = gradient_importance(dense, [{"input_ids": ids} for ids in weighing]).tolist()
    best = [tuple(max(range(g * 4, g * 4 + 4), key=row.__getitem__) for g in range(2)) for row in table]
    layouts = [replace(own, shared=shared) for own, shared in zip(model.moh_settings.layers, best, strict=True)]
    with with_layouts(model, layouts):
        assert found["most important"].loss == pytest.approx(loss(model, measuring), rel=1e-6)


def test_a_dense_model_is_refused(tmp_path: Path) -> None:
    dense_decoder("llama").save_pretrained(tmp_path)
    with pytest.raises(UserError, match="was not converted"):
        verify(tmp_path)


@pytest.mark.slow
def test_a_folder_passes_everything_and_a_dense_one_would_not(tmp_path: Path) -> None:
    dense_decoder("qwen3").save_pretrained(tmp_path / "dense")
    convert(tmp_path / "dense", settings_for(tmp_path / "dense", Request(active=0.75)), tmp_path / "moh")
    told: list[str] = []
    found = verify(tmp_path / "moh", tmp_path / "dense", advance=told.append)
    assert found.passed
    assert len(told) == STEPS
    names = {check.name: check for check in found.checks}
    assert names["a fresh process loads the same model"].passed is True
    refused = names["transformers alone refuses the folder"]
    assert refused.passed is True
    assert "moh_qwen3" in refused.detail
    assert found.texts.startswith("random tokens")
    assert checks.stock_fails(tmp_path / "dense").passed is False


@pytest.mark.slow
def test_a_folder_that_does_not_load_elsewhere_fails(tmp_path: Path) -> None:
    model = routed()
    full = logits_of(model, IDS)
    other = routed("free")
    other.save_pretrained(tmp_path / "other")
    assert checks.reloaded(tmp_path / "other", model, IDS, full).passed is False
    assert checks.reloaded(tmp_path / "nowhere", model, IDS, full).passed is False
