"""A tiny chat model and a tiny plain one, with real tokenizers that know letters."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "models"))
from strop.models.local import LocalModel
from strop.runs.store import CallStore
from tiny_llama import build_model


def _tokenizer(texts: list[str]) -> object:
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(texts, vocab_size=400, special_tokens=["<pad>", "<eos>"])
    return PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, pad_token="<pad>", eos_token="<eos>")


@pytest.fixture(scope="session")
def plain_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with a byte-level BPE of 400 tokens, a window of 4096 and no chat template."""
    folder = tmp_path_factory.mktemp("plain")
    tokenizer = _tokenizer(["Question: which of the following is the answer?\nA. one\nB. two\nAnswer: A"] * 4)
    model = build_model(tokenizer, seed=3)
    model.config.max_position_embeddings = 4096
    tokenizer.save_pretrained(folder)  # type: ignore[attr-defined]
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def plain_model(plain_folder: Path) -> LocalModel:
    return LocalModel(plain_folder, device="cpu")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CallStore]:
    """An empty call store in a file of its own."""
    with CallStore(tmp_path / "calls.sqlite") as opened:
        yield opened
