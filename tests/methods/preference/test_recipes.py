"""The shipped recipes: they load, they introduce themselves, and the paper's hold the paper's numbers."""

from __future__ import annotations

import re

import pytest

from strop.methods import RECIPES
from strop.methods.preference.config import PreferenceConfig
from strop.runs.configuration import load_recipe, shipped_recipes
from strop.training.settings import TrainingSettings

SHIPPED = [name for name in shipped_recipes() if name.startswith("preference/")]
PAPER = [name for name in SHIPPED if "paper" in name]
EIGHT = 8


def load(name: str) -> PreferenceConfig:
    config = load_recipe(name, recipes=RECIPES).config
    assert isinstance(config, PreferenceConfig)
    return config


def trainings(config: PreferenceConfig) -> list[TrainingSettings]:
    policy = config.policy
    found: list[TrainingSettings] = [config.reward.train]
    found += [] if policy.dpo is None else [policy.dpo]
    return [*found, *([] if policy.online is None else [policy.online.train])]


def test_all_are_there() -> None:
    assert {name.partition("/")[2] for name in SHIPPED} == {"demo", "cpu", "small", "paper_3b", "paper_8b"}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_introduces_itself_in_one_line(name: str) -> None:
    first, *_ = shipped_recipes()[name].read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(r"# .{20,}\.", first)


@pytest.mark.parametrize("name", PAPER)
def test_published_values(name: str) -> None:
    """Sections 1 and 2 of the paper's settings: rates, batches, beta, rounds, samples, gaps, lengths."""
    config = load(name)
    candidates, online, dpo = config.candidates, config.policy.online, config.policy.dpo
    assert candidates is not None
    assert online is not None
    assert dpo is not None
    assert (len(candidates.pool), candidates.per_speech) == (20, 4)
    assert (config.speeches.min_characters, config.speeches.max_characters) == (100, 1000)
    assert config.pairs.min_gap == 7
    assert (config.reward.train.learning_rate, config.reward.train.batch_size, config.reward.train.epochs) == (
        9e-6,
        128,
        2,
    )
    assert (dpo.learning_rate, dpo.batch_size, dpo.beta, dpo.max_steps) == (5e-7, 64, 0.1, 1600)
    assert (online.iterations, online.speeches, online.samples, online.temperature) == (16, 6400, 8, 1.0)
    assert (online.train.learning_rate, online.train.batch_size, online.train.beta) == (5e-7, 64, 0.1)
    assert online.iterations * online.speeches // online.train.batch_size == 1600
    assert {settings.max_length for settings in trainings(config)} == {2048}
    assert config.planning.speeches == 26_483
    assert config.comparison is not None
    assert len(config.comparison.word_limits) == 2


@pytest.mark.parametrize("name", PAPER)
def test_batches_divide_among_the_processes(name: str) -> None:
    config = load(name)
    assert f"--num_processes={EIGHT}" in config.machine.launcher.accelerate_args
    for settings in trainings(config):
        assert settings.batch_size % (settings.micro_batch_size * EIGHT) == 0


def test_the_two_sizes_differ_in_their_model_alone() -> None:
    three, eight = (load(f"preference/paper_{size}") for size in ("3b", "8b"))
    assert three.reward.model == three.policy.model
    assert eight.reward.model == eight.policy.model
    assert three.policy.model != eight.policy.model
    assert three.candidates == eight.candidates


def test_cpu_is_what_the_documentation_says() -> None:
    """At least four rounds of 64 speeches and eight samples of at most 96 tokens, and a second reward model."""
    config = load("preference/cpu")
    online = config.policy.online
    assert online is not None
    assert (online.iterations, online.speeches, online.samples, online.max_tokens) == (4, 64, 8, 96)
    assert online.train.batch_size == 8
    assert config.second_reward is not None
    assert not set(config.second_reward.rated) & set(config.rated)
    assert config.second_reward.model != config.reward.model


@pytest.mark.parametrize("name", ["preference/demo", "preference/cpu"])
def test_laptop_recipes_need_nothing_but_strop(name: str) -> None:
    config = load(name)
    assert all(path.is_file() for path in (*config.speeches.files, *config.rated))
    assert config.policy.model.kind == config.reward.model.kind == "builtin"
