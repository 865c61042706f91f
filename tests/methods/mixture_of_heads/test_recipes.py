"""The shipped recipes: they load, they introduce themselves, and the paper's hold the paper's numbers."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from strop.methods import RECIPES
from strop.methods.mixture_of_heads.arms import layouts
from strop.methods.mixture_of_heads.config import MixtureOfHeadsConfig
from strop.methods.mixture_of_heads.plan import plan
from strop.methods.mixture_of_heads.preflight import Shape, check_settings
from strop.runs.configuration import load_recipe, shipped_recipes

TEXT = ("mixture_of_heads/demo", "mixture_of_heads/cpu", "mixture_of_heads/paper_llama3_8b")
SMOLLM2 = Shape("llama", 30, 9, 3)


def load(name: str, *sets: str) -> MixtureOfHeadsConfig:
    config = load_recipe(name, sets=sets, recipes=RECIPES).config
    assert isinstance(config, MixtureOfHeadsConfig)
    return config


@pytest.mark.parametrize("name", TEXT)
def test_a_recipe_introduces_itself_in_one_line(name: str) -> None:
    first, *_ = shipped_recipes()[name].read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(r"# .{20,}\.", first)


def test_published_values() -> None:
    """Section 2 of the paper's settings: 16M tokens a step of 8,192, 300B and 100B tokens, rates, warm-up, decay."""
    config = load("mixture_of_heads/paper_llama3_8b")
    assert config.stage_one is not None
    assert config.train is not None
    for settings, rate, steps, tokens in ((config.stage_one, 6e-5, 18750, 300e9), (config.train, 2e-5, 6250, 100e9)):
        assert (settings.learning_rate, settings.max_steps, settings.weight_decay) == (rate, steps, 0.1)
        assert settings.batch_size * settings.max_length * steps == pytest.approx(tokens, rel=0.06)
        assert round(settings.warmup_ratio * steps) == 50
    assert config.train.balance == 0.01
    (heads,) = config.heads.values()
    (layout,) = layouts(heads, "moh", [[0.0] * 32], kv_groups=8)
    assert (layout.shared, layout.active, layout.units) == (tuple(range(16)), 8, 16)
    assert (heads.router, heads.choice) == ("query_norm", "free")
    assert len(config.examination.tasks) == 15


def test_cpu_is_the_comparison_that_was_asked_for() -> None:
    config = load("mixture_of_heads/cpu")
    assert len(config.seeds) >= 3
    check_settings(config, SMOLLM2)
    active = [layouts(heads, "moh", [[0.0] * 9], kv_groups=3)[0].active_heads for heads in config.heads.values()]
    assert active == [7, 6]
    assert config.from_scratch is not None
    assert config.from_scratch.shares == (0.75, 0.5)


def test_demo_is_a_short_seed_of_cpu() -> None:
    demo, cpu = load("mixture_of_heads/demo"), load("mixture_of_heads/cpu")
    assert demo.model == cpu.model
    assert demo.heads["seven_of_nine"] == cpu.heads["seven_of_nine"]


def test_what_a_plan_says(tmp_path: object) -> None:
    """Three seeds of five arms and of three small models: 24 trainings."""
    from pathlib import Path

    made = plan(load("mixture_of_heads/cpu"), workspace=Path(str(tmp_path)))
    assert made.total.trainings == 3 * (5 + 3)
    assert made.total.calls == 0
    assert made.total.seconds is not None
    assert made.total.seconds.high < 3 * 3600


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model=null", "belong together"),
        ("seeds=[1,1]", "each seed"),
        ("heads={Bad-Name: {active: 0.5}}", "a-z"),
        ("heads.seven_of_nine.active=9/7", "less than or equal to 1"),
        ("train=null", "give both or neither"),
    ],
)
def test_bad_settings_are_told_at_once(change: str, message: str) -> None:
    with pytest.raises((Exception, ValidationError), match=message):
        load("mixture_of_heads/demo", change)
