"""A vLLM server that strop starts, waits for, and stops; it ends with the process that started it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import IO

from strop.errors import Stopped, UserError
from strop.models.endpoints import watchdog
from strop.models.endpoints.endpoint import EndpointModel
from strop.models.protocol import Call, Outcome
from strop.models.spec import ModelSpec
from strop.runs.budget import FREE, Price
from strop.runs.calls import Ability
from strop.runs.progress import Reporter

HOST = "127.0.0.1"
POLL_S = 0.2
HEARTBEAT_S = 15.0
STOP_WAIT_S = watchdog.STOP_WAIT_S
LOG_LINES_SHOWN = 15
PORTS_TRIED = 3
"""Starts before a port that somebody else takes first counts as a failure."""


class VllmModel:
    """A model served by a `vllm serve` process of our own, on a free port of the loopback interface."""

    def __init__(
        self, spec: ModelSpec, *, heartbeat_s: float = HEARTBEAT_S, say: Callable[[str], None] | None = None
    ) -> None:
        """Start the server and wait until it answers.

        Args:
            spec: A `vllm:` model.
            heartbeat_s: How often to say, while waiting, for how long already and what the server said last.
            say: Takes those lines; they go to standard error where None.

        Raises:
            UserError: The command is not there, the server ended, or it did not answer in time; the end of its log
                is shown.
        """
        self._spec, self._heartbeat_s, self._say = spec, heartbeat_s, say or Reporter().say
        # Removed when it is closed. Whoever kills this process leaves a small log behind, and no server.
        self._log: IO[bytes] = tempfile.NamedTemporaryFile(prefix="strop-vllm-", suffix=".log")  # noqa: SIM115
        self._process: subprocess.Popen[bytes] | None = None
        self._endpoint: EndpointModel | None = None
        try:
            port = self._come_up()
            self._endpoint = EndpointModel(spec, base_url=f"http://{HOST}:{port}/v1", name=spec.model)
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """``vllm:`` and the model's name."""
        return self._spec.model

    @property
    def revision(self) -> str:
        """The model's name; the port is not part of it."""
        return self._open().revision

    @property
    def price(self) -> Price | None:
        """Nothing: it runs here."""
        return FREE

    @property
    def abilities(self) -> dict[str, Ability]:
        """What is known of the server; see `EndpointModel.abilities`."""
        return self._open().abilities

    def complete(
        self, calls: Iterable[Call], *, done: Container[int] = frozenset()
    ) -> Iterator[list[tuple[int, Outcome]]]:
        """Yield what has come in; see `EndpointModel.complete`.

        Raises:
            Stopped: As there; or the server ended, and the end of its log is shown.
            UserError: As there.
        """
        try:
            yield from self._open().complete(calls, done=done)
        except Stopped as stop:
            code = None if self._process is None else self._process.poll()
            if code is None:
                raise
            raise Stopped(
                "the vLLM server ended during the work",
                value=self._spec.target,
                why=self._story(f"it ended with code {code}"),
                fix="run the same command again: it starts the server anew, and the answered calls are kept",
            ) from stop

    def close(self) -> None:
        """Stop the server and everything it started."""
        if self._endpoint is not None:
            self._endpoint.close()
        self._stop()
        self._log.close()

    def _open(self) -> EndpointModel:
        assert self._endpoint is not None
        return self._endpoint

    def _come_up(self) -> int:
        """Start the server and wait for it; return its port."""
        for attempt in range(1, PORTS_TRIED + 1):
            port = free_port()
            self._process = process = self._start(port)
            code = self._wait(process, port)
            if code is None:
                return port
            # Between the choice of a port and the server's own bind anybody may take it.
            if not _is_taken(port) or attempt == PORTS_TRIED:
                raise self._failed(f"it ended with code {code}")
            self._stop()
        raise AssertionError("unreachable")

    def _start(self, port: int) -> subprocess.Popen[bytes]:
        command = [*self._spec.vllm_command, self._spec.target, "--host", HOST, "--port", str(port)]
        if self._spec.dtype != "auto":
            command += ["--dtype", self._spec.dtype]
        if shutil.which(command[0]) is None:
            raise UserError(
                "the vLLM server cannot be started",
                value=" ".join(command),
                why=f"there is no command {command[0]!r}",
                fix="install vLLM, or name the command in the model's option vllm_command",
            )
        return subprocess.Popen(
            [sys.executable, "-I", watchdog.__file__, str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            # A group of its own: the server's workers end with it, and Ctrl-C reaches strop alone.
            start_new_session=True,
        )

    def _wait(self, process: subprocess.Popen[bytes], port: int) -> int | None:
        """Return None once the server answers, or the code it ended with."""
        import httpx2

        started = heartbeat = time.monotonic()
        while (now := time.monotonic()) - started < self._spec.startup_timeout:
            if (code := process.poll()) is not None:
                return code
            with contextlib.suppress(httpx2.TransportError):
                if httpx2.get(f"http://{HOST}:{port}/health", timeout=5, trust_env=False).is_success:
                    return None
            if now - heartbeat >= self._heartbeat_s:
                heartbeat = now
                last = "".join(self._log_lines()[-1:])
                self._say(f"  waiting for the server of {self.name}, {now - started:.0f} s so far: {last[:120]}")
            time.sleep(POLL_S)
        raise self._failed(f"no answer within {self._spec.startup_timeout:g} s (option startup_timeout)")

    def _failed(self, why: str) -> UserError:
        return UserError("the vLLM server did not come up", value=self._spec.target, why=self._story(why))

    def _story(self, why: str) -> str:
        return "\n    ".join([why, *self._log_lines()[-LOG_LINES_SHOWN:]])

    def _log_lines(self) -> list[str]:
        text = Path(self._log.name).read_text(encoding="utf-8", errors="replace")
        return [line for line in text.splitlines() if line.strip()]

    def _stop(self) -> None:
        if self._process is None:
            return
        _signal_group(self._process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_WAIT_S)
        # Workers that outlived the server, or all of it where it would not end.
        _signal_group(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None


def _signal_group(group: int, number: signal.Signals) -> None:
    # macOS says "not permitted" for a group whose members have all ended.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: connections of the past do not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False
