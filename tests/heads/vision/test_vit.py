"""Routed heads in transformers' ViT: identity, gradients, balance, saving, and every backend."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageClassification, ViTConfig, ViTForImageClassification, ViTModel

from strop.errors import UserError
from strop.heads.attention import using
from strop.heads.routers import FixedRouter, LearnedRouter
from strop.heads.vision.budgets import budget_named, first_shared
from strop.heads.vision.settings import VisionSettings
from strop.heads.vision.vit import MoHViTConfig, MoHViTForImageClassification, MoHViTModel, from_vit

HEADS, LAYERS = 4, 3
ALL = first_shared(HEADS, shared=HEADS, active=0)


def vit(**changes: Any) -> ViTForImageClassification:
    torch.manual_seed(1)
    config = ViTConfig(
        **{
            "hidden_size": 32,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "intermediate_size": 48,
            "image_size": 8,
            "patch_size": 2,
            "num_channels": 1,
            "num_labels": 10,
            "initializer_range": 0.2,
        }
        | changes
    )
    return ViTForImageClassification(config).eval()


def images(count: int = 5) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(2))


def mixed(**changes: Any) -> VisionSettings:
    """A routed layer, a weighted full one and a pruned one."""
    layers = (first_shared(HEADS, shared=1, active=2), ALL, first_shared(HEADS, shared=2, active=0))
    return VisionSettings(layers=layers, **changes)


def attentions(model: MoHViTForImageClassification) -> list[Any]:
    layers: Any = model.vit.layers
    return [layer.attention for layer in layers]


def untrain(model: MoHViTForImageClassification, seed: int = 3) -> None:
    """Give the routers weights, so that tokens differ."""
    drawn = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if ".router." in name:
            weight.data = torch.randn(weight.shape, generator=drawn)


@pytest.mark.parametrize("shared", [0, 1, 2, 4])
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_all_heads_on_is_the_stock_model(shared: int, backend: str) -> None:
    """Zero router weights and k = E: every gate is 1."""
    stock = vit()
    layers = (first_shared(HEADS, shared=shared, active=HEADS - shared),) * LAYERS
    routed = from_vit(stock, VisionSettings(layers=layers, backend=backend))
    with torch.no_grad():
        assert torch.allclose(routed(images()).logits, stock(images()).logits, atol=1e-6)


def test_paper_gates_shrink_what_a_layer_gives() -> None:
    """All four heads shared, paper style: gates of 1/4, so logits move away from the stock model's."""
    stock = vit()
    routed = from_vit(stock, VisionSettings(layers=(ALL,) * LAYERS, gates="paper"))
    with torch.no_grad():
        assert not torch.allclose(routed(images()).logits, stock(images()).logits, atol=1e-3)


def test_router_shapes() -> None:
    """W_s only with two shared heads or more, W_h only with shared and routed ones, nothing where all is fixed."""
    routed = from_vit(vit(), mixed())
    shapes = {
        name.removeprefix("vit.layers."): tuple(weight.shape)
        for name, weight in routed.named_parameters()
        if ".router." in name
    }
    assert shapes == {
        "0.attention.router.routed.weight": (3, 32),
        "0.attention.router.stage.weight": (2, 32),
        "1.attention.router.shared.weight": (4, 32),
    }
    kinds = [type(attention.router) for attention in attentions(routed)]
    assert kinds == [LearnedRouter, LearnedRouter, FixedRouter]


def test_a_full_layer_without_weights_is_plain_attention() -> None:
    stock = vit()
    routed = from_vit(stock, VisionSettings(layers=(ALL,) * LAYERS, weigh_all=False))
    assert not any(".router." in name for name, _ in routed.named_parameters())
    with torch.no_grad():
        assert torch.equal(routed(images()).logits, stock(images()).logits)


@pytest.mark.parametrize("backend", ["gathered", "auto"])
def test_backends_agree_with_the_reference(backend: str) -> None:
    """Logits, and the gradient of every weight."""
    routed = from_vit(vit(), mixed())
    untrain(routed)
    found = {}
    for name in ("reference", backend):
        routed.zero_grad()
        with using(name):
            out = routed(images(), labels=torch.arange(5))
            out.loss.backward()
        found[name] = [out.logits.detach(), *(w.grad for w in routed.parameters() if w.grad is not None)]
    for mine, theirs in zip(found[backend], found["reference"], strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5 * max(1.0, theirs.abs().max().item()))


@pytest.mark.parametrize("backend", ["reference", "gathered"])
def test_half_precision_arithmetic_routes_in_float32(backend: str) -> None:
    """Under autocast the choice is nearly always the same and the loss stays close; gradients are finite."""
    routed = from_vit(vit(), mixed()).train()
    untrain(routed)
    with using(backend):
        exact = routed(images(), labels=torch.arange(5)).loss.item()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = routed(images(), labels=torch.arange(5))
        out.loss.backward()
    assert out.loss.item() == pytest.approx(exact, abs=0.2)
    assert all(weight.grad.isfinite().all() for weight in routed.parameters() if weight.grad is not None)
    assert router_gradient(routed).any()


def test_pruned_heads_give_nothing_and_learn_nothing() -> None:
    routed = from_vit(vit(), VisionSettings(layers=(first_shared(HEADS, shared=2, active=0),) * LAYERS))
    routed(images(), labels=torch.arange(5)).loss.backward()
    for attention in attentions(routed):
        assert not attention.o_proj.weight.grad[:, 16:].any()
        assert not attention.q_proj.weight.grad[16:].any()
        assert attention.q_proj.weight.grad[:16].any()


def test_images_do_not_touch_each_other() -> None:
    routed = from_vit(vit(), mixed())
    untrain(routed)
    with torch.no_grad():
        together = routed(images()).logits
        alone = torch.cat([routed(image[None]).logits for image in images()])
    assert torch.allclose(together, alone, atol=1e-5)


def test_balance_is_about_k_at_first() -> None:
    """Stages 3 and 4 of ViT-S-75 log 6.0 and 12.1 at first: uniform scores give exactly K = 6 and 12."""
    blocks = budget_named("ViT-S-75").blocks[2:]
    for block in blocks:
        stock = vit(hidden_size=24 * block.heads // 12, num_attention_heads=block.heads)
        routed = from_vit(stock, VisionSettings(layers=(block.layout,) * LAYERS)).train()
        routed(images())
        assert [value.item() for value in routed.moh_balance.values.values()] == pytest.approx([block.active] * LAYERS)
        drawn = torch.Generator().manual_seed(4)
        for name, weight in routed.named_parameters():
            if ".router." in name:
                weight.data = 0.02 * torch.randn(weight.shape, generator=drawn)
        routed(images(32))
        mean = routed.moh_balance.mean()
        assert mean is not None
        assert mean.item() == pytest.approx(block.active, abs=0.15)


@pytest.mark.parametrize("training", [False, True])
def test_a_model_without_routed_layers_has_no_balance_and_no_failure(training: bool) -> None:
    routed = from_vit(vit(), VisionSettings(layers=(ALL,) * LAYERS)).train(training)
    routed(images(), labels=torch.arange(5)).loss.backward()
    assert routed.moh_balance.values == {}
    assert routed.moh_balance.mean() is None


def test_balance_is_measured_in_training_only() -> None:
    routed = from_vit(vit(), mixed())
    routed(images())
    assert routed.moh_balance.values == {}
    routed.train()(images())
    assert set(routed.moh_balance.values) == {0}
    assert routed.moh_balance.layer_coefficient == 0.01


@pytest.mark.parametrize("backend", ["reference", "gathered"])
def test_projections_that_are_more_than_a_weight(backend: str) -> None:
    """A hook on the projections, as adapters add: they are then called as a whole, and the output is the same."""
    routed = from_vit(vit(), mixed())
    untrain(routed)
    with torch.no_grad(), using(backend):
        plain = routed(images()).logits
        for attention in attentions(routed):
            attention.q_proj.register_forward_hook(lambda module, given, out: None)
            attention.o_proj.register_forward_hook(lambda module, given, out: None)
        assert torch.allclose(routed(images()).logits, plain, atol=1e-5)


def test_a_layer_without_heads_adds_its_bias() -> None:
    routed = from_vit(vit(), VisionSettings(layers=(first_shared(HEADS, shared=0, active=0),) * LAYERS))
    logits = []
    for backend in ("reference", "gathered"):
        with torch.no_grad(), using(backend):
            logits.append(routed(images()).logits)
    assert torch.allclose(logits[0], logits[1], atol=1e-6)


def router_gradient(model: MoHViTForImageClassification) -> Tensor:
    gradient = attentions(model)[0].router.routed.weight.grad
    assert isinstance(gradient, Tensor)
    return gradient.clone()


def test_balance_joins_the_gradient_as_the_mean_over_routing_layers() -> None:
    """Two routing layers: the gradient is the task's plus beta / 2 times that of the sum of both values."""
    route = first_shared(HEADS, shared=1, active=2)
    routed = from_vit(vit(), VisionSettings(layers=(route, ALL, route))).double().train()
    untrain(routed)
    for name, weight in routed.named_parameters():
        if ".router." in name:
            weight.data = weight.data.double()
    pixels, labels = images().double(), torch.arange(5)
    gradients = []
    for coefficient in (0.0, 0.5, 1.0):
        routed.moh_balance.coefficient = coefficient
        routed.zero_grad()
        routed(pixels, labels=labels).loss.backward()
        gradients.append(router_gradient(routed))
    none, half, full = gradients
    assert torch.allclose(half - none, (full - none) / 2, atol=1e-12)
    # The same by finite difference of task + mean value along the gradient of the first layer's router.
    routed.moh_balance.coefficient = 1.0
    weight, losses = attentions(routed)[0].router.routed.weight, []
    step = 1e-6 * full / full.norm()
    for sign in (1, -1):
        weight.data += sign * step
        out = routed(pixels, labels=labels)
        mean = routed.moh_balance.mean()
        assert mean is not None
        losses.append(out.loss.item() + mean.item())
        weight.data -= sign * step
    assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(full.norm().item(), rel=1e-4)


def test_gradient_checkpointing_changes_nothing() -> None:
    gradients = []
    for checkpointing in (False, True):
        routed = from_vit(vit(), mixed(balance=0.5)).train()
        untrain(routed)
        if checkpointing:
            routed.gradient_checkpointing_enable()
        routed(images(), labels=torch.arange(5)).loss.backward()
        gradients.append(router_gradient(routed))
    assert torch.equal(*gradients)


def test_saved_and_loaded(tmp_path: Path) -> None:
    routed = from_vit(vit(), mixed(gates="paper", balance=0.02))
    untrain(routed)
    routed.save_pretrained(tmp_path)
    again = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert isinstance(again, MoHViTForImageClassification)
    assert again.config.moh_settings == mixed(gates="paper", balance=0.02)
    with torch.no_grad():
        assert torch.equal(again(images()).logits, routed(images()).logits)
    with pytest.raises(ValueError, match="mixture of heads"):
        ViTForImageClassification.from_pretrained(tmp_path)


@pytest.mark.slow
def test_a_fresh_process_loads_it_with_strop_only(tmp_path: Path) -> None:
    """With ``import strop.heads`` the automatic classes know the type; without it they refuse."""
    from_vit(vit(), mixed()).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "moh_vit"
    code = (
        "from transformers import AutoModelForImageClassification as Model;"
        f"print(type(Model.from_pretrained({str(tmp_path)!r})).__name__)"
    )
    for before, expected in (("", None), ("import strop.heads;", "MoHViTForImageClassification")):
        found = subprocess.run([sys.executable, "-c", before + code], capture_output=True, text=True, check=False)
        if expected is None:
            assert found.returncode == 1
            assert "moh_vit" in found.stderr
        else:
            assert found.stdout.strip() == expected, found.stderr


def test_a_stock_vit_stays_dense_and_is_not_loaded_by_mistake(tmp_path: Path) -> None:
    """Loaded as the other class its weights, stored under other names, would be left out: refused before that."""
    stock = vit()
    stock.save_pretrained(tmp_path)
    assert type(AutoModelForImageClassification.from_pretrained(tmp_path)) is ViTForImageClassification
    assert type(AutoConfig.from_pretrained(tmp_path)) is ViTConfig
    with pytest.raises(UserError, match="a ViT's folder"):
        MoHViTForImageClassification.from_pretrained(tmp_path)


def test_missing_routers_begin_at_zero(tmp_path: Path) -> None:
    """A folder without router weights, as of a model with another layout, does not bring uninitialised ones."""
    from_vit(vit(), VisionSettings(layers=(ALL,) * LAYERS, weigh_all=False)).save_pretrained(tmp_path)
    again = MoHViTForImageClassification.from_pretrained(tmp_path, moh=mixed().to_dict())
    assert not attentions(again)[0].router.routed.weight.any()


def test_the_base_model() -> None:
    stock = vit()
    routed = MoHViTModel(MoHViTConfig(**{**stock.config.to_dict(), "model_type": "moh_vit", "moh": mixed().to_dict()}))
    routed.load_state_dict(stock.vit.state_dict(), strict=False)
    out = routed(images(), output_hidden_states=True)
    assert isinstance(routed, ViTModel)
    assert out.last_hidden_state.shape == (5, 17, 32)
    assert len(out.hidden_states) == LAYERS + 1


def test_hidden_patches_at_the_end() -> None:
    """With a mask of visible patches: as in the stock model where all heads are on, refused where they lie apart."""
    stock = vit()
    routed = from_vit(stock, VisionSettings(layers=(first_shared(HEADS, shared=1, active=3),) * LAYERS))
    mask = torch.ones(5, 17, dtype=torch.long)
    mask[:, 12:] = 0
    with torch.no_grad():
        mine = routed(images(), attention_mask=mask).logits
        theirs = stock(images(), attention_mask=mask).logits
    assert torch.allclose(mine, theirs, atol=1e-5)
    mask[:, 5] = 0
    with pytest.raises(UserError, match="lie together"):
        routed(images(), attention_mask=mask)


def test_what_cannot_be_converted() -> None:
    with pytest.raises(UserError, match="another number of layers or heads"):
        from_vit(vit(), VisionSettings(layers=(ALL,) * 2))
    with pytest.raises(UserError, match="another number of layers or heads"):
        from_vit(vit(), VisionSettings(layers=(first_shared(8, shared=8, active=0),) * LAYERS))
    with pytest.raises(UserError, match="drop attention weights"):
        from_vit(vit(attention_probs_dropout_prob=0.1), mixed())
