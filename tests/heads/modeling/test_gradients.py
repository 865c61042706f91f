"""Training through routed decoders: sparse gradients are the reference's, and checkpointing changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import strop.heads  # noqa: F401  # makes the converted types known to transformers
from routed_decoders import FAMILIES, dense_decoder, routed_decoder, tokens
from strop.heads.attention import using


def gradients(model: Any, *, backend: str = "gathered", padding: bool = False) -> dict[str, Tensor]:
    """Return the gradient of every weight from one training step's loss; zero where there is none."""
    model.train()
    model.zero_grad()
    ids = tokens(2, 19)
    mask = torch.ones_like(ids)
    labels = ids.clone()
    if padding:
        mask[0, :4] = 0
        labels[0, :5] = -100
    with using(backend):
        model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss.backward()
    return {
        name: torch.zeros_like(weight) if weight.grad is None else weight.grad.clone()
        for name, weight in model.named_parameters()
    }


def assert_close(found: dict[str, Tensor], wanted: dict[str, Tensor], limit: float) -> None:
    for name, gradient in wanted.items():
        largest = float(gradient.abs().max())
        assert float((found[name] - gradient).abs().max()) <= limit * max(largest, 1e-3), name


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layout", ["first half", "one of each group", "pruned"])
@pytest.mark.parametrize("router", ["learned", "query_norm"])
def test_sparse_gradients_are_the_references(family: str, layout: str, router: str) -> None:
    """With the gradient of a query-norm router estimated from the chosen heads; with padding on the left."""
    model = routed_decoder(dense_decoder(family), layout, router=router, straight_through="selected")
    model.moh_balance.coefficient = 0.5
    assert_close(gradients(model, padding=True), gradients(model, backend="reference", padding=True), 1e-4)


@pytest.mark.parametrize("router", ["learned", "query_norm"])
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("backend", ["reference", "gathered"])
def test_checkpointing_changes_no_gradient(router: str, reentrant: bool, backend: str) -> None:
    """A layer that is run twice adds its balance once."""
    model = routed_decoder(dense_decoder("qwen3"), "one of each group", router=router)
    model.moh_balance.coefficient = 3.0
    plain = gradients(model, backend=backend)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    assert_close(gradients(model, backend=backend), plain, 1e-5)


@pytest.mark.parametrize("router", ["learned", "query_norm"])
def test_the_injected_balance_is_that_of_a_loss_with_its_term(router: str) -> None:
    """Beta 0.7 through the layers' outputs, against 0.7 times the mean of the layers' values added to the loss."""
    from strop.heads.balance import load_balance

    model = routed_decoder(dense_decoder("llama"), "first half", router=router, straight_through="off")
    model.moh_balance.coefficient = 0.7
    injected = gradients(model)
    model.moh_balance.coefficient = 0.0
    model.zero_grad()
    values: list[Tensor] = []
    for layer in model.model.layers:
        layer.self_attn.router.register_forward_hook(
            lambda _m, _given, made: values.append(load_balance(made.probability_bnce, made.picked_bnce))
        )
    ids = tokens(2, 19)
    with using("gathered"):
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    (loss + 0.7 * torch.stack(values).mean()).backward()
    assert_close(injected, {name: weight.grad for name, weight in model.named_parameters()}, 1e-5)


def test_exact_gradients_reach_the_queries_of_heads_that_were_not_chosen() -> None:
    """The last head, never among the chosen where its queries are scaled down, learns from what it would have given.

    "selected" estimates it without that head's output, through the softmax over all norms alone; "off" gives nothing.
    """
    found = {}
    for how in ("exact", "selected", "off"):
        model = routed_decoder(dense_decoder("llama"), "free", router="query_norm", straight_through=how)
        model.moh_balance.coefficient = 0.0
        with torch.no_grad():
            model.model.layers[0].self_attn.q_proj.weight[-16:] *= 1e-3
        backend = "gathered" if how != "exact" else "reference"
        found[how] = gradients(model, backend=backend)["model.layers.0.self_attn.q_proj.weight"][-16:]
    assert float(found["exact"].abs().max()) > 0
    assert float(found["selected"].abs().max()) > 0
    assert not torch.allclose(found["exact"], found["selected"], rtol=1e-2)
    assert float(found["off"].abs().max()) == 0.0


def test_one_pick_gives_a_learned_router_no_task_gradient() -> None:
    from strop.heads.layout import HeadLayout

    layout = HeadLayout(query_heads=8, kv_groups=2, shared=(), active=1)
    with pytest.warns(UserWarning, match="no gradient"):
        model = routed_decoder(dense_decoder("llama"), layout, router="learned")
    model.moh_balance.coefficient = 0.0
    one = gradients(model)["model.layers.1.self_attn.router.routed.weight"]
    two = gradients(routed_decoder(dense_decoder("llama"), "free", router="learned"))
    assert float(one.abs().max()) < 1e-6
    assert float(two["model.layers.1.self_attn.router.routed.weight"].abs().max()) > 1e-4


def test_values_are_of_the_last_pass_and_of_real_tokens() -> None:
    """Zero routers are uniform: with four picks of eight every layer's value is 4 exactly; evaluation notes nothing."""
    model = routed_decoder(dense_decoder("llama"), "free", router="learned", draw_router=False)
    gradients(model, padding=True)
    assert {layer: round(float(value), 5) for layer, value in model.moh_balance.values.items()} == {0: 4, 1: 4, 2: 4}
    model.moh_balance.values.clear()
    with torch.no_grad():
        model.eval()(input_ids=tokens(1, 5))
    assert model.moh_balance.values == {}


def test_bfloat16_autocast_trains() -> None:
    model = routed_decoder(dense_decoder("llama"), "one of each group", router="learned")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradients(model)
    wanted = gradients(model)
    for name in ("model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.router.routed.weight"):
        similar = torch.cosine_similarity(found[name].flatten(), wanted[name].flatten(), dim=0)
        assert float(similar) > 0.95, name
