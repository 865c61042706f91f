"""Routed heads in diffusers' DiT: identity, layers of unequal heads, the published sizes, saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiTTransformer2DModel
from torch import Tensor

from strop.errors import UserError
from strop.heads.attention import using
from strop.heads.vision.budgets import BUDGETS, budget_named, first_shared
from strop.heads.vision.dit import MoHDiTTransformer2DModel, dit_of, from_dit, initialise
from strop.heads.vision.settings import VisionSettings

TINY = {
    "num_attention_heads": 4,
    "attention_head_dim": 8,
    "out_channels": 8,
    "num_layers": 3,
    "sample_size": 8,
    "num_embeds_ada_norm": 10,
}
UNEVEN = VisionSettings(
    layers=tuple(first_shared(heads, shared=2, active=active) for heads, active in ((2, 0), (4, 1), (6, 2))),
    gates="paper",
)


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Latents, steps and classes, the last of which is no class."""
    drawn = torch.Generator().manual_seed(5)
    return torch.randn(3, 4, 8, 8, generator=drawn), torch.tensor([0, 500, 999]), torch.tensor([1, 2, 10])


def uneven() -> MoHDiTTransformer2DModel:
    torch.manual_seed(6)
    model: MoHDiTTransformer2DModel = MoHDiTTransformer2DModel(**TINY, moh=UNEVEN.to_dict()).eval()
    for name, weight in model.named_parameters():
        if ".router." in name:
            torch.nn.init.normal_(weight)
    return model


@pytest.mark.parametrize("shared", [0, 1, 4])
def test_all_heads_on_is_the_stock_model(shared: int) -> None:
    torch.manual_seed(7)
    stock = DiTTransformer2DModel(**TINY).eval()
    routed = from_dit(stock, VisionSettings(layers=(first_shared(4, shared=shared, active=4 - shared),) * 3))
    with torch.no_grad():
        assert torch.allclose(routed(*inputs()).sample, stock(*inputs()).sample, atol=1e-6)


def test_layers_of_unequal_heads() -> None:
    """Two, four and six heads of width 8 in a model of width 32: inner widths 16, 32 and 48."""
    model = uneven()
    inner = [block.attn1.to_q.weight.shape for block in model.transformer_blocks]
    assert inner == [(16, 32), (32, 32), (48, 32)]
    assert [tuple(block.attn1.to_out[0].weight.shape) for block in model.transformer_blocks] == [
        (32, 16),
        (32, 32),
        (32, 48),
    ]
    out = model(*inputs()).sample
    assert out.shape == (3, 8, 8, 8)
    out.square().mean().backward()
    assert all(weight.grad is not None for name, weight in model.named_parameters() if ".router." in name)


def test_backends_agree_with_the_reference() -> None:
    model, found = uneven(), []
    for backend in ("reference", "gathered"):
        model.zero_grad()
        with using(backend):
            out = model(*inputs()).sample
            out.square().mean().backward()
        found.append([out.detach(), *(w.grad for w in model.parameters() if w.grad is not None)])
    for mine, theirs in zip(*found, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5 * max(1.0, theirs.abs().max().item()))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_balance(checkpointing: bool) -> None:
    """Layer 0 routes nothing; K is 1 and 2 in the others, and untrained routers give exactly that."""
    model = uneven().train()
    for name, weight in model.named_parameters():
        if ".router." in name:
            torch.nn.init.zeros_(weight)
    if checkpointing:
        model.enable_gradient_checkpointing()
    model(*inputs()).sample.square().mean().backward()
    assert {layer: value.item() for layer, value in model.moh_balance.values.items()} == pytest.approx({1: 1.0, 2: 2.0})
    assert model.moh_balance.layer_coefficient == 0.005


def test_saved_and_loaded(tmp_path: Path) -> None:
    model = uneven()
    model.save_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").exists()
    again = MoHDiTTransformer2DModel.from_pretrained(tmp_path)
    assert VisionSettings.from_dict(again.config.moh, heads=4, layers=3) == UNEVEN
    with torch.no_grad():
        assert torch.equal(again(*inputs()).sample, model(*inputs()).sample)


def test_a_saved_model_never_loads_as_a_dense_one(tmp_path: Path) -> None:
    """Equal heads everywhere, so that every stock weight would fit."""
    layers = (first_shared(4, shared=1, active=2),) * 3
    MoHDiTTransformer2DModel(**TINY, moh=VisionSettings(layers=layers).to_dict()).save_pretrained(tmp_path)
    with pytest.raises(Exception, match="moh_ada_norm_zero"):
        DiTTransformer2DModel.from_pretrained(tmp_path)


def test_a_stock_folder_is_refused(tmp_path: Path) -> None:
    DiTTransformer2DModel(**TINY).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="stock DiT's config"):
        MoHDiTTransformer2DModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", [name for name in BUDGETS if name.startswith("DiT")])
@pytest.mark.filterwarnings("ignore:a token picks one of")
def test_published_sizes(name: str) -> None:
    """The published total, from ours: one embedding of step and class instead of one a block, and stored positions.

    DiT-XL/2-90: 750,363,296 - 27 x 2,777,472 + 256 x 1,152 = 675.7M, of which the routers hold 536,832.
    """
    budget = budget_named(name)
    with torch.device("meta"):
        model = dit_of(budget)
    sizes = {key: weight.numel() for key, weight in model.named_parameters()}
    embedding = sum(size for key, size in sizes.items() if key.startswith("transformer_blocks.0.norm1.emb."))
    theirs = sum(sizes.values()) - (len(budget.layers) - 1) * embedding + 256 * budget.blocks[0].width
    assert round(theirs / 1e6, 1) == budget.published_parameters
    assert sum(size for key, size in sizes.items() if ".router." in key) == budget.router_parameters
    assert [block.attn1.heads for block in model.transformer_blocks] == [one.query_heads for one in budget.layers]


def test_initialised_blocks_are_the_identity() -> None:
    """As the authors': every block adds nothing and the output is zero, whatever the routers choose."""
    model = uneven()
    initialise(model)
    block, hidden = model.transformer_blocks[1], torch.randn(3, 16, 32)
    with torch.no_grad():
        moved = block(hidden, timestep=inputs()[1], class_labels=inputs()[2])
        assert torch.equal(moved, hidden)
        assert not model(*inputs()).sample.any()


@pytest.mark.parametrize(("given", "value"), [("encoder_hidden_states", torch.zeros(1, 2, 32)), ("attention_mask", 1)])
def test_other_keys_and_masks_are_refused(given: str, value: Any) -> None:
    with pytest.raises(UserError, match="nothing else"):
        uneven().transformer_blocks[0].attn1(torch.zeros(1, 16, 32), **{given: value})


def test_what_cannot_be_built() -> None:
    with pytest.raises(UserError, match="not a DiT's"):
        dit_of(budget_named("ViT-B-75"))
    with pytest.raises(UserError, match="another number of layers or heads"):
        from_dit(DiTTransformer2DModel(**TINY), UNEVEN)
