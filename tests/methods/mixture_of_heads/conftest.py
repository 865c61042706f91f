"""A tiny random Llama with six heads in three groups, documents of words, and a whole configuration on them."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.conftest import WORDS, word_tokenizer

from strop.methods.mixture_of_heads.config import MixtureOfHeadsConfig
from strop.records.tables import write_table

os.environ["HF_HUB_OFFLINE"] = "1"

Configure = Callable[..., MixtureOfHeadsConfig]


@pytest.fixture(scope="session")
def dense_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Llama, 2 layers, 6 query heads in 3 KV groups."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("dense") / "model"
    tokenizer = word_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=3,
        initializer_range=0.2,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def word_documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 documents of 60 words, each word followed by one of two."""
    source = random.Random(4)
    file = tmp_path_factory.mktemp("words") / "documents.jsonl"
    rows = []
    for number in range(20):
        places = [source.randrange(len(WORDS))]
        for _ in range(59):
            places.append((places[-1] * 7 + source.choice((1, 2))) % len(WORDS))
        rows.append({"id": f"d{number}", "text": " ".join(WORDS[place] for place in places)})
    write_table(file, rows)
    return file


@pytest.fixture
def configure(dense_model: Path, word_documents: Path) -> Configure:
    """Returns a maker of configurations: two settings, two seeds, four steps, small models from scratch."""

    def make(**changes: Any) -> MixtureOfHeadsConfig:
        training = {
            "learning_rate": 3e-3,
            "max_steps": 4,
            "batch_size": 4,
            "micro_batch_size": 4,
            "max_length": 16,
            "balance": 0.01,
        }
        settings: dict[str, Any] = {
            "recipe": "mixture_of_heads",
            "seeds": [1, 2],
            "model": str(dense_model),
            "text": {"files": [str(word_documents)], "held_back": 0.3},
            "calibration": 4,
            "heads": {
                "four_of_six": {"active": "4/6", "choice": "free"},
                "one_of_two": {"active": 0.5, "router": "query_norm"},
            },
            "train": {**training, "distillation": {"weight": 0.5}},
            "from_scratch": {
                "shares": [0.5],
                "layers": 1,
                "width": 32,
                "heads": 4,
                "shared": 1,
                "vocabulary": 300,
                "train": training,
            },
            "machine": {"device": "cpu"},
        }
        for name, value in changes.items():
            *parents, last = name.split("__")
            place = settings
            for parent in parents:
                place = place[parent]
            place[last] = value
        return MixtureOfHeadsConfig.model_validate(settings)

    return make
