"""The shipped recipes of the method: they load, differ as the experiments do, can be launched."""

from __future__ import annotations

import re

import pytest

from strop.methods import RECIPES
from strop.methods.weak_to_strong.config import FilesData, WeakToStrongConfig
from strop.runs.configuration import load_recipe, shipped_recipes
from strop.training.settings import PreferenceSettings, TrainingSettings

SHIPPED = [name for name in shipped_recipes() if name.startswith("weak_to_strong/")]
PAPER = [name for name in SHIPPED if "/paper_" in name]
EIGHT = 8


def load(name: str) -> WeakToStrongConfig:
    config = load_recipe(name, recipes=RECIPES).config
    assert isinstance(config, WeakToStrongConfig)
    return config


def trainings(config: WeakToStrongConfig) -> list[TrainingSettings]:
    weak = [config.weak.train] if config.weak.train else []
    return [*weak, config.stage_one.train, *(config.stage_two.train.values() if config.stage_two else ())]


def test_the_three_experiments_of_the_paper_are_there() -> None:
    names = {name.partition("/")[2] for name in SHIPPED}
    assert names >= {"demo", "cpu", "small", "paper_gsm8k", "paper_math", "paper_olympicarena"}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_introduces_itself_in_one_line(name: str) -> None:
    first, *_ = shipped_recipes()[name].read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(r"# .{20,}\.", first)


@pytest.mark.parametrize("name", PAPER)
def test_published_values(name: str) -> None:
    config = load(name)
    assert config.mode == "compat"
    assert config.demonstrations.count == 4
    assert {"Question", "Answer"} <= set(config.decoding.stop)
    stage_two = config.stage_two
    assert stage_two is not None
    assert (stage_two.samples, stage_two.temperature) == (10, 1.0)
    assert (stage_two.keep, stage_two.reject_weak, stage_two.seed) == (0.6, 0.8, 42)
    assert [training.loss for training in stage_two.train.values()] == ["dpo", "orpo"]


def test_what_differs_between_the_experiments() -> None:
    gsm8k, math, olympic = (load(f"weak_to_strong/paper_{name}") for name in ("gsm8k", "math", "olympicarena"))
    assert [one.stage_one.iterations for one in (gsm8k, math, olympic)] == [2, 1, 2]
    assert [one.decoding.max_tokens for one in (gsm8k, math, olympic)] == [1024, 2048, 2048]
    assert [one.stage_two.pairs for one in (gsm8k, math, olympic) if one.stage_two] == ["gsm8k", "math", "math"]
    assert [one.stage_one.top_up for one in (gsm8k, math, olympic)] == [None, 1000, None]
    assert [one.key for one in (gsm8k, math, olympic)] == ["gsm8k", "math", "olympicarena"]
    assert olympic.weak.train is None
    assert "ceiling" not in olympic.arms


@pytest.mark.parametrize("name", PAPER)
def test_batches_divide_among_the_processes(name: str) -> None:
    """The launcher starts eight processes; each optimiser step must be a whole number of their micro-batches."""
    config = load(name)
    assert f"--num_processes={EIGHT}" in config.machine.launcher.accelerate_args
    for settings in trainings(config):
        assert settings.batch_size % (settings.micro_batch_size * EIGHT) == 0


@pytest.mark.parametrize("name", PAPER)
def test_every_unpublished_value_is_called_our_choice(name: str) -> None:
    text = shipped_recipes()[name].read_text(encoding="utf-8")
    for line in text.splitlines():
        if re.match(r"\s+(learning_rate|epochs|batch_size|schedule|warmup_ratio):", line):
            assert "# our choice" in line, line


@pytest.mark.parametrize("name", PAPER)
def test_accelerate_accepts_the_launcher(name: str) -> None:
    """`accelerate launch` reads FSDP, its version and eight processes from the arguments, whatever is before."""
    from accelerate.commands.launch import launch_command_parser

    before = ["--num_processes", "1", "--num_machines", "1", "--mixed_precision", "bf16"]
    arguments = [*before, *load(name).machine.launcher.accelerate_args, "-m", "strop.training.worker", "job.json"]
    parsed = launch_command_parser().parse_args(arguments)
    assert parsed.use_fsdp
    assert (parsed.num_processes, str(parsed.fsdp_version)) == (EIGHT, "2")
    assert parsed.fsdp_auto_wrap_policy == "TRANSFORMER_BASED_WRAP"
    assert (parsed.multi_gpu, parsed.cpu, parsed.use_deepspeed) == (False, False, False)


def test_small_trains_adapters_on_files() -> None:
    config = load("weak_to_strong/small")
    assert isinstance(config.data, FilesData)
    assert all(isinstance(one, TrainingSettings) and one.lora and one.precision == "bf16" for one in trainings(config))
    assert any(isinstance(one, PreferenceSettings) for one in trainings(config))
