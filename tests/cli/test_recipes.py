"""Every shipped recipe is valid, says what it is, and is found by the verbs."""

from __future__ import annotations

import json

import pytest

from strop.cli import main
from strop.methods import RECIPES
from strop.runs.configuration import load_recipe, shipped_recipes

SHIPPED = shipped_recipes()


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipe_is_valid(name: str) -> None:
    loaded = load_recipe(name, recipes=RECIPES)
    assert loaded.method == name.partition("/")[0]
    assert loaded.name == name


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipe_says_what_it_is(name: str) -> None:
    assert SHIPPED[name].read_text(encoding="utf-8").startswith("# ")


def test_every_published_method_has_a_demo_and_every_recipe_an_example() -> None:
    """A comparison of two models is no method of a paper: `strop demo` leaves it out."""
    assert {f"{method}/demo" for method in set(RECIPES) - {"head_to_head"}} <= set(SHIPPED)
    assert {name.partition("/")[0] for name in SHIPPED} == set(RECIPES)


@pytest.mark.parametrize("name", SHIPPED)
def test_config_shows_where_values_come_from(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["config", name, "--json", "--set", "machine.device=cpu"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["origins"]["machine.device"] == "--set"
    assert shown["config"]["machine"]["device"] == "cpu"
