"""A whole preference run in seconds: scripted models answer, a scripted judge rates, tiny random models are trained."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

sys.path.insert(0, str(Path(__file__).parents[2] / "models"))
from strop.methods.preference.config import PreferenceConfig
from strop.methods.preference.ratings import PRINCIPLES
from strop.methods.preference.recipe import preference
from strop.records.document import Document
from strop.records.tables import write_table
from strop.runs import Artifact, Run
from tiny_llama import build_model, build_tokenizer

Configure = Callable[..., PreferenceConfig]

LEVELS = {"great": (5, "apples and books"), "fair": (4, "many apples"), "poor": (2, "how many ?"), "bad": (1, "stop")}
"""What each scripted model answers, and the rating that the scripted judge gives it on every principle."""


@pytest.fixture(scope="session")
def tiny_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random Llama with a chat template."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("policy") / "model"
    tokenizer = build_tokenizer(chat=True)
    tokenizer.save_pretrained(folder)
    build_model(tokenizer).save_pretrained(folder)
    return folder


def settings_in(folder: Path, policy: Path) -> Configure:
    """Write speeches and scripts into a folder and return a maker of settings that name them."""
    words = ["apples", "books", "has", "how", "many", "and", "stop", "go"]
    speeches = [
        {"id": f"s{number}", "speech": f"{number} " + " ".join(words[(number + k) % 8] for k in range(6))}
        for number in range(40)
    ]
    write_table(folder / "speeches.jsonl", speeches)
    for name, (_, text) in LEVELS.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"default": text}))
    rules = [
        {"pattern": f"(?s){text.replace('?', '[?]')}", "reply": "\n".join(f"{key}: {level}" for key in PRINCIPLES)}
        for level, text in LEVELS.values()
    ]
    (folder / "judge.yaml").write_text(yaml.safe_dump({"rules": rules}))
    train = {"learning_rate": 1e-2, "max_steps": 4, "batch_size": 4, "micro_batch_size": 4, "max_length": 128}

    def make(**changes: Any) -> PreferenceConfig:
        settings: dict[str, Any] = {
            "recipe": "preference",
            "speeches": {
                "files": [folder / "speeches.jsonl"],
                "min_characters": 1,
                "near_duplicates": None,
                "development": 0.2,
                "test": 0.2,
            },
            "candidates": {"pool": [{"model": f"scripted:{folder}/{name}.yaml", "name": name} for name in LEVELS]},
            "ratings": {"judge": {"model": f"scripted:{folder}/judge.yaml", "allow_unqualified": True}},
            "reward": {"model": str(policy), "train": train},
            "second_reward": {"model": str(policy), "train": {**train, "max_steps": 2}},
            "policy": {
                "model": str(policy),
                "max_tokens": 8,
                "dpo": train,
                "online": {
                    "iterations": 2,
                    "speeches": 6,
                    "samples": 4,
                    "max_tokens": 8,
                    "cut_may_win": True,
                    "gate": False,
                    "limits": dict.fromkeys(
                        ("length_ratio", "shortness_ratio", "distinct_2_ratio", "repetition", "kl", "cut", "empty")
                    ),
                    "train": {**train, "max_steps": 2, "lora": {"rank": 2, "merge": False}},
                },
            },
            "comparison": {"word_limits": [None, 20], "tuned_prompt": "apples", "limit": 4, "resamples": 200},
            "machine": {"device": "cpu"},
        }
        for path, value in changes.items():
            holder, _, key = path.partition("__")
            if key:
                settings[holder] = {**settings[holder], key: value}
            else:
                settings[holder] = value
        return PreferenceConfig.model_validate(settings)

    return make


@pytest.fixture
def configure(tmp_path: Path, tiny_policy: Path) -> Configure:
    """Return a maker of settings; ``configure(policy__online=None)`` changes one of them."""
    return settings_in(tmp_path, tiny_policy)


@dataclass(frozen=True)
class Finished:
    """A whole run that is over: its settings, its report and its artifacts."""

    config: PreferenceConfig
    document: Document
    artifacts: dict[str, Artifact]
    workspace: Path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_policy: Path) -> Finished:
    """Return one whole run for every test that only reads."""
    workspace = tmp_path_factory.mktemp("finished")
    config = settings_in(workspace, tiny_policy)()
    with Run.open(workspace / "run", config=config, origins={}, seed=0, workspace=workspace, quiet=True) as run:
        document = preference(config, run)
        return Finished(config, document, dict(run.artifacts), workspace)
