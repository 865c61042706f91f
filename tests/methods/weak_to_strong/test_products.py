"""What a run offers for export: the models that it trained, from what, and which one it was for."""

from __future__ import annotations

from pathlib import Path

from strop.methods import RECIPES
from strop.methods.weak_to_strong.config import WeakToStrongConfig
from strop.methods.weak_to_strong.products import products
from strop.runs import Artifact
from strop.runs.configuration import load_recipe


def config(*sets: str) -> WeakToStrongConfig:
    loaded = load_recipe("weak_to_strong/demo", sets=sets, recipes=RECIPES).config
    assert isinstance(loaded, WeakToStrongConfig)
    return loaded


def artifacts(*names: str) -> dict[str, Artifact]:
    return {name: Artifact(name, Path(name), "digest") for name in names}


def test_only_what_was_trained_is_offered() -> None:
    made = artifacts("seed3-weak-model", "seed3-iteration1-hybrid", "seed3-dpo", "seed3-pairs", "seed3-weak-answers")
    settings = config("seeds=[3, 4]", "stage_one.iterations=1")
    found = {product.name: product for product in products(settings, made, final="dpo")}
    assert list(found) == ["seed3-weak-model", "seed3-iteration1-hybrid", "seed3-dpo", "seed3-pairs"]
    assert found["seed3-dpo"].base == "seed3-iteration1-hybrid"
    assert found["seed3-iteration1-hybrid"].base == settings.strong.model
    assert (found["seed3-pairs"].kind, found["seed3-pairs"].path) == ("pairs", "pairs.jsonl")


def test_one_model_is_final_however_many_seeds() -> None:
    made = artifacts(*(f"seed{seed}-{arm}" for seed in (3, 4) for arm in ("iteration1-hybrid", "dpo", "self-labels")))
    settings = config("seeds=[3, 4]", "stage_one.iterations=1")
    found = list(products(settings, made, final="dpo"))
    assert len(found) == 6
    assert [product.name for product in found if product.final] == ["seed3-dpo"]
