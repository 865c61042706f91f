"""A real model folder with a tiny Llama, a real server in front of it, and a call store."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from llama_server import LlamaServer
from openai_server import OpenAIServer
from strop.errors import UserError
from strop.models.builtin import SMOLLM2, builtin_source
from strop.models.endpoints.vllm import free_port
from strop.models.local import LocalModel
from strop.runs.store import CallStore
from tiny_llama import build_model, build_tokenizer


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


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """The GGUF file of SmolLM2; tests that need it, or llama.cpp's server, are skipped where they are not installed."""
    pytest.importorskip("xllamacpp", reason="llama.cpp's server comes from the wheel xllamacpp (the dev extra)")
    try:
        return builtin_source(SMOLLM2)
    except UserError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def llama(smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    """llama.cpp's own server with SmolLM2, in its own process."""
    with LlamaServer(smollm2_gguf, free_port(), tmp_path_factory.mktemp("llama") / "server.log") as running:
        yield running


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
