"""The paper's language models: sizes as published, counted by hand and by transformers on the meta device."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from strop.errors import UserError
from strop.heads.scratch import SHARES, SIZES, ScratchSize, scratch_model


@pytest.mark.parametrize(
    ("size", "percent", "millions"), [("S", 100, 186), ("B", 100, 881), ("S", 75, 186), ("B", 75, 882), ("B", 50, 882)]
)
def test_published_sizes(size: ScratchSize, percent: int, millions: int) -> None:
    """Table 3: LLM-S 186M, LLM-B 881M, MoH-LLM-B 882M."""
    assert round(scratch_model(size, percent).parameters / 1e6) == millions


def test_parameters_by_hand() -> None:
    """S: 12 x (4 x 768^2 + 3 x 768 x 2,048 + 2 x 768) + 2 x 65,536 x 768 + 768; B's routers: 24 x 18 x 1,536."""
    assert scratch_model("S", 100).parameters == 185_617_152
    assert scratch_model("B", 75).router_parameters == 663_552


@pytest.mark.parametrize("size", SIZES)
def test_transformers_counts_the_same(size: ScratchSize) -> None:
    model = scratch_model(size, 100)
    config = LlamaConfig(**model.config)
    with torch.device("meta"):
        built = LlamaForCausalLM(config)
    assert sum(weight.numel() for weight in built.parameters()) == model.parameters
    assert config.to_dict()["rope_parameters"]["rope_theta"] == 10_000.0


def test_head_budgets() -> None:
    """B at 75 %: 4 shared + 8 of 12 (figure 3), so 12 of 16 heads and a density of 2/3 among the routed."""
    layout = scratch_model("B", 75).layout
    assert (len(layout.shared), layout.active, layout.units) == (4, 8, 12)
    assert [scratch_model(size, share).layout.active_share for size in SIZES for share in SHARES] == [
        0.5,
        0.75,
        1.0,
    ] * 2
    assert scratch_model("S", 50).layout.describe() == "3 shared + 3 of 9 routed heads (6 of 12 heads active, 50.0 %)"


def test_what_is_inferred_is_named() -> None:
    assert "shared" not in scratch_model("B", 75).inferred
    assert "shared" in scratch_model("B", 50).inferred
    assert "gates" not in scratch_model("S", 100).inferred
    for size in SIZES:
        for share in SHARES:
            model = scratch_model(size, share)
            assert set(model.inferred) - {"gates", "shared"} <= set(model.config)


def test_other_models_are_refused() -> None:
    with pytest.raises(UserError, match="of this size"):
        scratch_model("L", 75)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="share of heads"):
        scratch_model("S", 90)
