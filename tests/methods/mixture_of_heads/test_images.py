"""The recipes of images: published numbers, a plan that says what is missing, and no run."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from strop.errors import UserError
from strop.methods import RECIPES
from strop.methods.mixture_of_heads.config import MixtureOfHeadsConfig
from strop.methods.mixture_of_heads.images import ImageTraining
from strop.methods.mixture_of_heads.plan import plan
from strop.methods.mixture_of_heads.preflight import preflight
from strop.runs.configuration import load_recipe

VIT, DIT = "mixture_of_heads/paper_vit_b75", "mixture_of_heads/paper_dit_xl90"


def load(name: str, *sets: str) -> tuple[MixtureOfHeadsConfig, ImageTraining]:
    config = load_recipe(name, sets=sets, recipes=RECIPES).config
    assert isinstance(config, MixtureOfHeadsConfig)
    assert config.images is not None
    return config, config.images


def test_published_values() -> None:
    """1,281,167 images in batches of 1,024 are 1,251 whole steps; 310 epochs with the cooldown: 387,810."""
    _, vit = load(VIT)
    assert (vit.learning_rate, vit.final_rate, vit.weight_decay, vit.drop_path) == (1e-3, 1e-5, 0.05, 0.6)
    assert vit.optimiser_steps == 1251 * 310 == 387_810
    assert round(100 * vit.heads.share.over_heads, 1) == 75.0
    _, dit = load(DIT)
    assert (dit.learning_rate, dit.weight_decay, dit.average, dit.max_grad_norm) == (1e-4, 0.0, 0.9999, None)
    assert dit.optimiser_steps == 7_000_000
    assert round(100 * dit.heads.share.over_heads, 2) == 89.96


@pytest.mark.parametrize(("name", "told"), [(VIT, "75.0 % of all heads active"), (DIT, "90.0 % of all heads active")])
def test_a_plan_says_what_it_needs_and_that_nothing_here_does_it(name: str, told: str, tmp_path: Path) -> None:
    config, images = load(name)
    made = plan(config, workspace=tmp_path)
    assert made.total.trainings == 1
    assert made.total.steps.low == images.optimiser_steps
    notes = "\n".join(made.notes)
    assert "planned, not run" in notes
    assert "1,281,167 images" in notes
    assert told in notes
    assert f"{images.heads.router_parameters:,} router weights" in notes


@pytest.mark.parametrize("name", [VIT, DIT])
def test_a_run_is_refused_before_anything_is_spent(name: str) -> None:
    with pytest.raises(UserError, match="does not train them") as refused:
        preflight(load(name)[0])
    assert "heads_digits.py" in str(refused.value)


def test_another_budget_and_an_unknown_one() -> None:
    assert load(VIT, "images.budget=ViT-B-50")[1].heads.share.over_heads == 0.5
    with pytest.raises((UserError, ValidationError), match="ViT-B-75"):
        load(VIT, "images.budget=ViT-XXL")
    with pytest.raises((UserError, ValidationError), match="planned alone"):
        load(VIT, "from_scratch={train: {max_steps: 1, learning_rate: 1e-3, max_length: 64}}")
