"""A tiny random Llama with a word-level tokenizer, and rows for it: training tests take seconds."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from strop.records.tables import write_table
from strop.training import PreferenceSettings, TrainingJob, TrainingSettings

os.environ["HF_HUB_OFFLINE"] = "1"

WORDS = [f"w{number}" for number in range(60)]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Llama, 2 layers, hidden 48, 63 words, about 60,000 parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny") / "model"
    tokenizer = word_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def word_tokenizer() -> Any:
    """One token a word, and a start token before every text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(["<pad>", "<s>", "</s>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", model_max_length=64
    )


def _sentence(source: random.Random, low: int, high: int) -> str:
    return " ".join(source.choices(WORDS, k=source.randint(low, high)))


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 prompts and responses of 2 to 12 words."""
    source = random.Random(1)
    file = tmp_path_factory.mktemp("rows") / "examples.jsonl"
    rows = [{"id": n, "prompt": _sentence(source, 2, 12), "response": _sentence(source, 2, 12)} for n in range(64)]
    write_table(file, rows)
    return file


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 prompts with a chosen and a rejected response of 2 to 10 words."""
    source = random.Random(2)
    file = tmp_path_factory.mktemp("rows") / "pairs.jsonl"
    rows = [
        {
            "id": n,
            "prompt": _sentence(source, 2, 10),
            "chosen": _sentence(source, 2, 10),
            "rejected": _sentence(source, 2, 10),
        }
        for n in range(32)
    ]
    write_table(file, rows)
    return file


JobMaker = Callable[..., TrainingJob]


@pytest.fixture
def make_job(tmp_path: Path, tiny_model: Path, examples: Path, pairs: Path) -> JobMaker:
    """Returns a maker of jobs: ``make_job("dpo", "name", beta=0.2)``; settings not given are small and fast."""

    def make(
        kind: str = "sft",
        name: str = "one",
        *,
        rows: Path | None = None,
        model: Path | None = None,
        seed: int = 7,
        **settings: Any,
    ) -> TrainingJob:
        chosen: dict[str, Any] = {"learning_rate": 3e-3, "batch_size": 8, "micro_batch_size": 8, "max_length": 64}
        if "epochs" not in settings:
            chosen["max_steps"] = 6
        chosen |= settings
        return TrainingJob.model_validate(
            {
                "kind": kind,
                "model": model or tiny_model,
                "rows": rows or (examples if kind == "sft" else pairs),
                "out": tmp_path / name / "out",
                "work": tmp_path / name / "work",
                "settings": TrainingSettings(**chosen) if kind == "sft" else PreferenceSettings(loss=kind, **chosen),
                "seed": seed,
            }
        )

    return make
