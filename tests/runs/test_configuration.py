"""Recipes: every problem at once, the nearest valid key, the origin of every value, and no secrets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BeforeValidator, Field, model_validator

from strop.errors import UserError
from strop.runs import Config, load_recipe
from strop.runs.annotated import annotated_yaml
from strop.runs.configuration import find_recipe, json_schema, leaves
from strop.runs.yaml_files import parse_value


class Model(Config):
    """A model."""

    kind: str
    """Where it comes from."""
    name: str
    """What it is called there."""
    revision: str = "main"
    """Which version."""


def parse_model(value: Any) -> Any:
    if isinstance(value, str):
        kind, _, name = value.partition(":")
        return {"kind": kind, "name": name}
    return value


class Training(Config):
    """Training settings."""

    learning_rate: float = Field(1e-4, gt=0)
    """Peak learning rate, per step."""
    epochs: int = Field(1, ge=1)
    """Passes over the data."""


class Sft(Training):
    """Supervised."""

    kind: Literal["sft"]
    """Supervised fine-tuning."""


class Dpo(Training):
    """Preference."""

    kind: Literal["dpo"]
    """Direct preference optimisation."""
    beta: float = 0.1
    """Strength of the reference."""


class ToyConfig(Config):
    """Settings of the toy method."""

    recipe: Literal["toy"]
    """The method."""
    weak: Annotated[Model, BeforeValidator(parse_model)]
    """The weak model. It labels."""
    seeds: tuple[int, ...] = (0, 1)
    """Seeds."""
    stage_one: Training = Training()
    """The first training."""
    stages: tuple[Annotated[Sft | Dpo, Field(discriminator="kind")], ...] = ()
    """Further trainings."""
    max_tokens: int | None = None
    """Longest answer; null sets no limit."""

    @model_validator(mode="after")
    def _seeds_are_there(self) -> Self:
        if not self.seeds:
            raise ValueError("a run needs at least one seed")
        return self


RECIPES = {"toy": (f"{__name__}:ToyConfig", "nowhere:toy")}
TEXT = """\
recipe: toy
weak: builtin:tiny   # a text
stage_one:
  learning_rate: 2e-3
stages:
  - kind: dpo
    beta: 0.2
"""


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the import path of the class above lead here, whatever pytest calls this module."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules[ToyConfig.__module__])


@pytest.fixture(name="recipe")
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text(TEXT)
    return path


def problems(path: Path, text: str, *sets: str) -> str:
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_recipe(path, sets=sets, recipes=RECIPES)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_values_and_their_origins(recipe: Path) -> None:
    loaded = load_recipe(recipe, sets=["stage_one.epochs=3", "stages.0.beta=0.5", "seeds=[4, 5]"], recipes=RECIPES)
    config = loaded.config
    assert isinstance(config, ToyConfig)
    assert (config.weak.kind, config.weak.name, config.seeds) == ("builtin", "tiny", (4, 5))
    assert (config.stage_one.learning_rate, config.stage_one.epochs) == (0.002, 3)
    assert loaded.origins == {
        "recipe": "toy.yaml:1",
        "weak.kind": "toy.yaml:2",
        "weak.name": "toy.yaml:2",
        "weak.revision": "toy.yaml:2",
        "seeds.0": "--set",
        "seeds.1": "--set",
        "stage_one.learning_rate": "toy.yaml:4",
        "stage_one.epochs": "--set",
        "stages.0.kind": "toy.yaml:6",
        "stages.0.beta": "--set",
        "stages.0.learning_rate": "default",
        "stages.0.epochs": "default",
        "max_tokens": "default",
    }
    assert (loaded.name, loaded.method, loaded.function) == ("toy", "toy", "nowhere:toy")


def test_the_annotated_text_reads_back_as_the_same_settings(recipe: Path, tmp_path: Path) -> None:
    loaded = load_recipe(recipe, sets=["seeds=[7]"], recipes=RECIPES)
    text = annotated_yaml(loaded.config, origins=loaded.origins)
    assert "# The weak model. It labels.\nweak:\n  # Where it comes from.\n  kind: builtin  # toy.yaml:2\n" in text
    assert "seeds:  # --set\n- 7\n" in text
    copy = tmp_path / "copy.yaml"
    copy.write_text(text)
    assert load_recipe(copy, recipes=RECIPES).config == loaded.config


def test_all_problems_come_at_once_with_their_lines(recipe: Path) -> None:
    text = problems(
        recipe,
        "recipe: toy\nweek: builtin:tiny\nstage_one:\n  learning_rat: 1\n  epochs: 0\n"
        "stages:\n- kind: dpo\n  beta: much\n",
        "stages.0.bata=1",
    )
    lines = text.splitlines()
    assert lines[0] == f"{recipe}: 6 problems in the settings"
    assert sorted(line.strip() for line in lines[1:]) == [
        "--set: stages.0.bata: unknown key, did you mean 'stages.0.beta'?",
        "toy.yaml:2: week: unknown key, did you mean 'weak'?",
        "toy.yaml:4: stage_one.learning_rat: unknown key, did you mean 'stage_one.learning_rate'?",
        "toy.yaml:5: stage_one.epochs: Input should be greater than or equal to 1: got 0",
        "toy.yaml:8: stages.0.beta: Input should be a valid number, unable to parse string as a number: got 'much'",
        "weak: missing, and it has no default",
    ]


def test_a_key_in_the_wrong_place_is_pointed_to_its_own(recipe: Path) -> None:
    assert "learning_rate: unknown key, did you mean 'stage_one.learning_rate'?" in problems(
        recipe, TEXT + "learning_rate: 1\n"
    )
    assert "xyz: unknown key; known here: recipe, weak, seeds" in problems(recipe, TEXT + "xyz: 1\n")


def test_checks_across_fields_name_no_place(recipe: Path) -> None:
    assert problems(recipe, TEXT, "seeds=[]").splitlines()[1:] == ["  a run needs at least one seed"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("weak: x\n", "the key 'recipe' must name a method"),
        ("recipe: toi\n", "did you mean 'toy'?"),
        ("recipe: [toy]\n", "the key 'recipe' must name a method"),
        ("", "the key 'recipe' must name a method"),
        ("- recipe\n", "settings must be 'key: value' lines: got 'list'"),
        ("recipe: toy\nweak: a\nweak: b\n", "toy.yaml:3: the key 'weak' was given before, on line 2"),
        ("recipe: toy\nweak: [a\n", "not valid YAML"),
        ("recipe: !!python/object:os.system {}\n", "not valid YAML"),
    ],
)
def test_files_that_are_no_recipe(recipe: Path, text: str, expected: str) -> None:
    assert expected in problems(recipe, text)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("seeds", "must look like a.b=value"),
        ("=1", "must look like a.b=value"),
        ("a..b=1", "must look like a.b=value"),
        ("weak.revision=1", "'weak' is a single value, nothing can be set inside it"),
        ("stages.4.beta=1", "the list has the indexes 0 to 0"),
        ("stages.first=1", "the list has the indexes 0 to 0"),
        ("seeds=[1", "not valid YAML"),
        ("stage_one.depth.more=1", "stage_one.depth: unknown key"),
    ],
)
def test_changes_that_cannot_be_made(recipe: Path, change: str, expected: str) -> None:
    assert expected in problems(recipe, TEXT, change)


@pytest.mark.parametrize(
    "secret",
    [
        "weak: {kind: openai, name: x, revision: sk-proj-abcdefgh12345678}",
        "weak: openai:sk-abcdefgh12345678",
        "weak: {kind: hf, name: x, api_key: hunter2}",
        "password: hunter2",
        "weak: http://host/v1#hf_abcdefghijklmnopqrstuv",
    ],
)
def test_secrets_are_refused_and_not_shown(recipe: Path, secret: str) -> None:
    text = problems(recipe, f"recipe: toy\n{secret}\n")
    assert "looks like a key or a password" in text
    assert "environment" in text
    assert "hunter2" not in text
    assert "abcdefgh" not in text


def test_a_secret_in_a_flag_is_refused_too(recipe: Path) -> None:
    text = problems(recipe, TEXT, "stage_one.api_key=sk-abcdefgh12345678")
    assert "--set: the value of 'stage_one.api_key' looks like a key" in text
    assert "abcdefgh" not in text


@pytest.mark.parametrize("harmless", ["builtin:task-specific-model", "hf:risk-averse/sk-8", "x:max_token"])
def test_names_that_only_look_a_little_like_secrets_pass(recipe: Path, harmless: str) -> None:
    loaded = load_recipe(recipe, sets=[f"weak={harmless}", "max_tokens=5"], recipes=RECIPES)
    weak = loaded.config.model_dump()["weak"]
    assert f"{weak['kind']}:{weak['name']}" == harmless


def test_an_unknown_recipe(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such recipe"):
        find_recipe(tmp_path / "absent.yaml")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_in_any_notation_are_numbers(number: float) -> None:
    assert parse_value(repr(number), where="x") == number
    assert isinstance(parse_value(f"{number:.3e}", where="x"), float)


@pytest.mark.parametrize("text", ["1e-5", "1E5", "-2e+3", "3e7"])
def test_exponents_without_a_point_are_numbers(text: str) -> None:
    assert parse_value(text, where="x") == float(text)


@pytest.mark.parametrize("text", ["1e", "e5", "1e5x", "v1e5"])
def test_text_that_is_no_number_stays_text(text: str) -> None:
    assert parse_value(text, where="x") == text


def test_leaves_of_nested_settings() -> None:
    assert list(leaves({"a": {"b": [1, {"c": 2}]}, "d": [], "e": {}})) == ["a.b.0", "a.b.1.c", "d", "e"]


def test_the_schema_carries_the_docstrings() -> None:
    schema = json_schema(ToyConfig)
    assert schema["properties"]["seeds"]["description"] == "Seeds."
    assert schema["additionalProperties"] is False
    assert yaml.safe_load(yaml.safe_dump(schema)) == schema
