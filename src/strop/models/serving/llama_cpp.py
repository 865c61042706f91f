"""llama.cpp on a GGUF file: does it read and write what the safetensors beside it do.

Its server comes from the wheel `xllamacpp` and runs in a process of its own, which ends with this one.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from strop.errors import UserError
from strop.models.endpoints.vllm import free_port
from strop.models.gguf_file import Weights
from strop.models.gguf_vocabulary import composes_accents
from strop.models.local import LocalModel
from strop.models.serving.served import open_served
from strop.models.serving.serving_check import MARGIN, PROMPTS, ServingCheck, check_serving
from strop.records.rows import Prompt

HOST = "127.0.0.1"
START_S = 300.0
CONTEXT = 1024
"""Tokens of a request: the prompts of the check with their answers."""
SHOWN_OF_LOG = 1500
BOUNDS: Mapping[Weights, float] = {"f32": MARGIN, "f16": MARGIN, "bf16": MARGIN, "q8_0": 0.9}
"""How much likelier than the token that llama.cpp wrote the safetensors' own choice may be, in nats.

The margin of `strop endpoint check`, or a little over twice the widest gap that was seen (``scripts/gguf_bounds.py``).
"""


def check_gguf_text(file: Path, folder: Path, *, weights: Weights) -> ServingCheck:
    """Serve a GGUF file with llama.cpp, and compare prompt tokens and greedy text with the folder it was made from.

    Where the tokenizer composes accents, so does this: llama.cpp leaves that to whoever sends text.

    Args:
        file: The GGUF file.
        folder: Safetensors and tokenizer.
        weights: Precision of the file, which decides the bound.

    Raises:
        UserError: llama.cpp is not installed or does not load the file.
    """
    require_llama_cpp()
    local = LocalModel(folder, device="cpu", dtype="float32")
    prompts = {name: _composed(prompt) for name, prompt in PROMPTS.items()} if composes_accents(folder) else PROMPTS
    with llama_server(file) as url, closing(open_served(url)) as served:
        return check_serving(served, local, prompts, margin=BOUNDS[weights])


def _composed(prompt: Prompt) -> Prompt:
    if isinstance(prompt, str):
        return unicodedata.normalize("NFC", prompt)
    return tuple(replace(turn, content=unicodedata.normalize("NFC", turn.content)) for turn in prompt)


def require_llama_cpp() -> None:
    """Make sure that llama.cpp's server is installed.

    Raises:
        UserError: It is not.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise UserError(
            "comparing a GGUF file with its model needs llama.cpp's server",
            why="the package xllamacpp is not installed",
            fix="pip install xllamacpp, or serve the file yourself and use `strop endpoint check`",
        )


@contextmanager
def llama_server(file: Path) -> Iterator[str]:
    """Serve a GGUF file on the loopback interface while the block runs; yield the base URL.

    Raises:
        UserError: The server does not come up with this file.
    """
    port = free_port()
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-m", "strop.models.serving.llama_cpp", str(file), str(port)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        try:
            if not _came_up(process, port):
                log.seek(max(0, log.seek(0, os.SEEK_END) - SHOWN_OF_LOG))
                told = log.read().decode("utf-8", errors="replace").strip()
                raise UserError("llama.cpp does not serve this file", value=str(file), why=told)
            yield f"http://{HOST}:{port}/v1"
        finally:
            process.kill()
            process.communicate()


def _came_up(process: subprocess.Popen[bytes], port: int) -> bool:
    import httpx2

    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx2.get(f"http://{HOST}:{port}/health", timeout=2, trust_env=False).is_success:
                return True
        except httpx2.TransportError:
            pass
        time.sleep(0.05)
    return False


def _serve(file: str, port: int) -> None:
    """Serve until whoever holds the other end of standard input is gone."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = file
    settings.hostnames, settings.port = [HOST], port
    settings.n_parallel, settings.n_ctx = 1, CONTEXT
    # Its threads wait for each other in busy loops: one that has no core of its own holds up all.
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = max(1, (os.cpu_count() or 1) // 2)
    settings.n_gpu_layers = 0
    settings.warmup = False
    server = xllamacpp.Server(settings)
    sys.stdin.read()
    del server
    os._exit(0)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
