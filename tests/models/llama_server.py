"""llama.cpp's OpenAI-compatible server, from the `xllamacpp` wheel, in a process of its own.

python llama_server.py GGUF --port P [--parallel 8] [--context N] [--threads T] [--chat-template FILE]

It answers once `GET /health` does, and ends with the process that started it; SIGKILL needs no goodbye.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx2

HOST = "127.0.0.1"
NAME = "smollm2"
PR_SET_PDEATHSIG = 1


@dataclass
class LlamaServer:
    """The server as a test holds it: started on entry, killed on exit, and at any moment in between.

    Attributes:
        gguf: The model.
        port: Where it listens; a restarted server listens there again.
        log_file: Gets what the server prints.
        parallel: Requests that it works on at a time.
        context: Tokens of one request, answer included.
        chat_template: A Jinja file instead of the template inside the GGUF.
    """

    gguf: Path
    port: int
    log_file: Path
    parallel: int = 4
    context: int = 1024
    chat_template: Path | None = None
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def root(self) -> str:
        """Where the server is, without the protocol's ``/v1``."""
        return f"http://{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """The base URL of the OpenAI-compatible protocol."""
        return f"{self.root}/v1"

    def start(self, *, within_s: float = 60.0) -> None:
        """Start the process and wait until it answers."""
        command = [sys.executable, __file__, str(self.gguf), "--port", str(self.port)]
        command += ["--parallel", str(self.parallel), "--context", str(self.context)]
        if self.chat_template is not None:
            command += ["--chat-template", str(self.chat_template)]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + within_s
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"llama.cpp's server did not come up: {self.log_file.read_text()[-2000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End it with SIGKILL, as a crash or an out-of-memory killer would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _answers(self) -> bool:
        try:
            return httpx2.get(f"{self.root}/health", timeout=2, trust_env=False).is_success
        except httpx2.TransportError:
            return False


def die_with_parent() -> None:
    """Ask Linux to kill this process when the one that started it ends, so that no test leaves a server behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:
            sys.exit("the process that wanted this server is gone")


def main(arguments: list[str]) -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--context", type=int, default=1024, help="tokens of one request")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--chat-template", type=Path)
    options = parser.parse_args(arguments)
    die_with_parent()

    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(options.gguf)
    settings.model_alias = {NAME}
    settings.hostnames, settings.port = [HOST], options.port
    settings.n_parallel, settings.n_ctx = options.parallel, options.parallel * options.context
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = options.threads
    settings.n_gpu_layers = 0
    settings.warmup = False
    if options.chat_template is not None:
        settings.chat_template = options.chat_template.read_text(encoding="utf-8")
    server = xllamacpp.Server(settings)
    print(f"listening at {server.listening_address}", flush=True)
    signal.pause()


if __name__ == "__main__":
    main(sys.argv[1:])
