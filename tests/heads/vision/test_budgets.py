"""The published budgets, head by head: every figure of the papers' tables that does not hang on another backbone."""

from __future__ import annotations

from pathlib import Path

import pytest

from strop.errors import UserError
from strop.heads.vision.budgets import BUDGETS, Block, budget_named, budget_table, first_shared

# Active heads over all heads (%), shared over active (%), layers that route, layers, router weights.
PUBLISHED = {
    "ViT-B-75": (75.0, 40.1, 28, 38, 299_136),
    "ViT-B-50": (50.0, 29.3, 33, 38, 302_016),
    "ViT-S-80": (79.95, 44.0, 27, 37, 168_984),
    "ViT-S-75": (75.29, 40.6, 27, 37, 168_984),
    "DiT-XL/2-90": (89.96, 93.3, 9, 28, 536_832),
    "DiT-XL/2-75": (75.0, 88.7, 19, 28, 559_872),
    "DiT-L/2-90": (89.58, 93.0, 8, 24, 409_600),
    "DiT-L/2-75": (75.0, 77.8, 16, 24, 425_984),
    "DiT-B/2-90": (89.58, 69.0, 10, 12, 125_952),
    "DiT-B/2-75": (75.0, 74.1, 10, 12, 125_952),
    "DiT-S/2-90": (88.89, 75.0, 8, 12, 33_792),
    "DiT-S/2-75": (75.0, 74.1, 10, 12, 35_328),
}


@pytest.mark.parametrize("name", BUDGETS)
def test_published_shares(name: str) -> None:
    """ViT-S-75 by hand: 15 + 30 + 9 x 22 + 16 x 5 = 323 of 15 + 30 + 264 + 120 = 429 heads: 75.29 %.

    DiT-XL/2-90: 72 + 160 + 9 x 19 = 403 of 448: 89.96 %; 376 of the 403 are shared.
    ViT-B-50 has routers everywhere, but in its first 5 layers a token takes both routed heads: it chooses in 33 of 38.
    """
    active, shared, routing, layers, weights = PUBLISHED[name]
    budget = budget_named(name)
    assert round(100 * budget.share.over_heads, 2) == active
    assert round(100 * budget.share.shared_among_active, 1) == shared
    assert (budget.share.routing_layers, budget.share.layers) == (routing, layers)
    assert budget.router_parameters == weights


def test_router_weights_by_hand() -> None:
    """D (h + 2) where tokens choose, D h where all heads are weighed.

    DiT-XL/2-90: 1152 x (9 x 8 + 10 x 16 + 9 x 26) = 1152 x 466 = 0.537M. ViT-B-75: 0.30M.
    """
    assert budget_named("DiT-XL/2-90").router_parameters == 1152 * (9 * 8 + 10 * 16 + 9 * 26)
    assert round(budget_named("DiT-XL/2-90").router_parameters / 1e6, 3) == 0.537
    assert round(budget_named("ViT-B-75").router_parameters / 1e6, 2) == 0.30


def test_the_two_means_differ() -> None:
    """ViT-S-75 keeps all heads of its narrow early layers: 75.3 % of the heads, but 80.6 % as the mean over layers."""
    share = budget_named("ViT-S-75").share
    assert (round(100 * share.over_heads, 2), round(100 * share.over_layers, 2)) == (75.29, 80.63)


@pytest.mark.parametrize("name", BUDGETS)
def test_heads_fill_the_width_as_published(name: str) -> None:
    """One head width in all layers; DiT-XL and -L have the stock number of heads only on average."""
    budget = budget_named(name)
    inner = sum(block.layers * block.heads * budget.head_width for block in budget.blocks)
    assert inner == sum(block.layers * block.width for block in budget.blocks)
    uneven = any(block.heads * budget.head_width != block.width for block in budget.blocks)
    assert uneven == name.startswith(("DiT-XL", "DiT-L"))


def test_table_names_both_means_and_every_model() -> None:
    table = budget_table()
    assert all(f"| {name} |" in table for name in BUDGETS)
    assert "| ViT-S-75 | 3+0/3 x5, 6+0/6 x5, 3+6/12 x22, 4+12/24 x5 | 75.29% | 80.63% | 40.6% | 27 of 37 |" in table


def test_unknown_budget_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="no published head budget") as refused:
        budget_named("ViT-L-75")
    assert "ViT-B-75" in str(refused.value)


def test_impossible_layers_are_refused() -> None:
    with pytest.raises(UserError, match="cannot share that many"):
        first_shared(4, shared=5, active=0)
    with pytest.raises(UserError, match="cannot take that many"):
        _ = Block(layers=1, width=8, heads=4, shared=2, active=3).layout


def test_the_page_shows_this_table() -> None:
    page = Path(__file__).parents[3] / "docs" / "heads_images.md"
    assert budget_table() in page.read_text(encoding="utf-8")
