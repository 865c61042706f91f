"""A vLLM server that strop starts, waits for, and stops."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import IO

from strop.errors import UserError
from strop.models.endpoint import EndpointModel
from strop.models.protocol import Call, Outcome
from strop.models.spec import ModelSpec
from strop.runs.budget import FREE, Price

HOST = "127.0.0.1"
POLL_S = 0.5
HEARTBEAT_S = 15.0
STOP_WAIT_S = 20.0
LOG_LINES_SHOWN = 15

log = logging.getLogger(__name__)


class VllmModel:
    """A model served by a `vllm serve` process of our own, on a free port of the loopback interface."""

    def __init__(self, spec: ModelSpec) -> None:
        """Start the server and wait until it answers.

        Raises:
            UserError: The command is not there, the server ended, or it did not answer in time; the end of its log
                is shown.
        """
        self._spec = spec
        self._port = _free_port()
        self._log: IO[bytes] = tempfile.NamedTemporaryFile(prefix="strop-vllm-", suffix=".log")  # noqa: SIM115
        self._process = self._start()
        try:
            self._wait()
        except BaseException:
            self._stop()
            raise
        self._endpoint = EndpointModel(spec, base_url=f"http://{HOST}:{self._port}/v1", name=spec.model)

    @property
    def name(self) -> str:
        """``vllm:`` and the model's name."""
        return self._spec.model

    @property
    def revision(self) -> str:
        """The model's name; the port is not part of it."""
        return self._endpoint.revision

    @property
    def price(self) -> Price | None:
        """Nothing: it runs here."""
        return FREE

    def complete(
        self, calls: Iterable[Call], *, done: Container[int] = frozenset()
    ) -> Iterator[list[tuple[int, Outcome]]]:
        """Yield what has come in; see `EndpointModel.complete`."""
        return self._endpoint.complete(calls, done=done)

    def close(self) -> None:
        """Stop the server."""
        self._endpoint.close()
        self._stop()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [*self._spec.vllm_command, self._spec.target, "--host", HOST, "--port", str(self._port)]
        if self._spec.dtype != "auto":
            command += ["--dtype", self._spec.dtype]
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                # A group of its own: the server's workers end with it.
                start_new_session=True,
            )
        except OSError as error:
            raise UserError(
                "the vLLM server cannot be started",
                value=" ".join(command),
                why=str(error),
                fix="install vLLM, or name the command in the model's option vllm_command",
            ) from error

    def _wait(self) -> None:
        import httpx

        started = heartbeat = time.monotonic()
        while (now := time.monotonic()) - started < self._spec.startup_timeout:
            if self._process.poll() is not None:
                raise self._failed(f"it ended with code {self._process.returncode}")
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"http://{HOST}:{self._port}/health", timeout=5, trust_env=False).is_success:
                    return
            if now - heartbeat >= HEARTBEAT_S:
                heartbeat = now
                log.info("waiting for the server of %s, %.0f s so far", self._spec.model, now - started)
            time.sleep(POLL_S)
        raise self._failed(f"no answer within {self._spec.startup_timeout:g} s (option startup_timeout)")

    def _failed(self, why: str) -> UserError:
        lines = Path(self._log.name).read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return UserError("the vLLM server did not come up", value=self._spec.target, why="\n    ".join([why, *lines]))

    def _stop(self) -> None:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_WAIT_S)
                break
        self._log.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
