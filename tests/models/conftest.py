"""A tiny random Llama with a word-level tokenizer: a real model folder, made in a second, without a download."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from openai_server import OpenAIServer

from strop.models.local import LocalModel
from strop.runs.store import CallStore

WORDS = (
    *("Question", "Answer", "apples", "books", "has", "how", "many", "and", "stop", "go", "ti", "me"),
    *map(str, range(100)),
)
SIGNS = (":", ".", "?", "####", "+", "=", "#")
WORD = r" ?[A-Za-z]+| ?\d+|\n| ?#+| ?[^\sA-Za-z\d#]"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message.role + ':' + message.content + '<eos>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)


def build_tokenizer(*, chat: bool = False) -> Any:
    """Words, numbers and signs with and without a leading space; decoding is concatenation."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = [*WORDS, *SIGNS]
    tokens = ["<pad>", "<eos>", "<unk>", "\n", *pieces, *(f" {piece}" for piece in pieces)]
    tokenizer = Tokenizer(models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )
    if chat:
        wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def build_model(tokenizer: Any, *, width: int = 32, layers: int = 2, seed: int = 0) -> Any:
    """Random weights, large enough that every next token depends on the whole prompt."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.3,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama whose answers depend on its prompt and end after a while."""
    import torch

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = build_tokenizer(chat=True)
    tokenizer.save_pretrained(folder)
    build_model(tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> LocalModel:
    """The tiny Llama, loaded."""
    return LocalModel(tiny_folder, device="cpu")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CallStore]:
    """An empty call store in a file of its own."""
    with CallStore(tmp_path / "calls.sqlite") as opened:
        yield opened


@pytest.fixture
def server(tiny: LocalModel) -> Iterator[OpenAIServer]:
    """A real OpenAI-compatible server on the loopback interface, in front of the tiny Llama."""
    with OpenAIServer(tiny) as running:
        yield running
