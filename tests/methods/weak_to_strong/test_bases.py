"""The two shipped bases are small, safe files that do what their training logs say."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

from strop.methods.weak_to_strong.prompts import zero_shot_prompt
from strop.methods.weak_to_strong.stories import draw_story
from strop.models.builtin import DATA, builtin_folder
from strop.models.opening import open_model
from strop.models.protocol import Call, Completion, Sampling
from strop.models.spec import parse_model

REPOSITORY = Path(__file__).resolve().parents[3]
BASES = ("strong", "weak")


@pytest.fixture(scope="module")
def pretraining() -> Iterator[ModuleType]:
    """The script that made the bases."""
    path = REPOSITORY / "scripts" / "pretrain_stories.py"
    spec = importlib.util.spec_from_file_location("pretrain_stories", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their own module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_they_are_small() -> None:
    files = [path for path in DATA.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 10_000_000
    assert len(list(DATA.iterdir())) == len(BASES)


@pytest.mark.parametrize("base", BASES)
def test_they_are_weights_and_json_and_nothing_that_runs(base: str) -> None:
    folder = DATA / f"stories-{base}"
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}
    texts = "".join(path.read_text() for path in folder.glob("*.json"))
    assert "auto_map" not in texts
    assert "trust_remote_code" not in texts


@pytest.mark.parametrize("base", BASES)
def test_the_recorded_loss_is_the_loss_of_the_shipped_weights(pretraining: ModuleType, base: str) -> None:
    from transformers import AutoTokenizer, LlamaForCausalLM

    folder = builtin_folder(f"stories-{base}")
    log = json.loads((folder / "training_log.json").read_text())
    model = LlamaForCausalLM.from_pretrained(folder)
    assert model.num_parameters() == log["size"]["parameters"]
    loss = pretraining.held_out_loss(model, AutoTokenizer.from_pretrained(folder), pretraining.SIZES[base])
    assert loss == pytest.approx(log["held_out_loss"], abs=1e-3)


@pytest.mark.parametrize("base", BASES)
def test_the_log_says_what_the_script_would_do(pretraining: ModuleType, base: str) -> None:
    log = json.loads((DATA / f"stories-{base}" / "training_log.json").read_text())
    size = vars(pretraining.SIZES[base])
    assert {name: log["size"][name] for name in size} == size
    assert log["curve"][-1]["step"] == size["steps"]
    assert log["curve"][-1]["loss"] < log["curve"][0]["loss"]


@pytest.mark.parametrize("base", BASES)
def test_they_answer_as_any_other_model(base: str) -> None:
    """Whatever they get wrong, nearly every answer of theirs ends in a final answer."""
    model = open_model(parse_model(f"builtin:stories-{base}"), device="cpu", dtype="float32")
    random = Random(0)
    prompts = [zero_shot_prompt(draw_story(random, steps=2).question) for _ in range(16)]
    try:
        sampling = Sampling(max_tokens=48, stop=("Question", "Answer"))
        outcomes = [
            outcome for batch in model.complete([Call(text, sampling) for text in prompts]) for _, outcome in batch
        ]
    finally:
        model.close()
    assert len(outcomes) == 16
    assert sum(isinstance(given, Completion) and "#### " in given.text for given in outcomes) >= 14
