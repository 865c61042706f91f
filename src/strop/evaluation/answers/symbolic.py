"""Compare expressions in a process of their own, under a deadline.

sympy has no time limit, and math-verify's relies on a signal that only the main thread may use. Here a worker process
compares; when it does not answer in time it is killed, the pair counts as not graded, and the next pair gets a new
worker. Any thread may ask; one pair is compared at a time.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.connection import wait
from typing import Literal

from strop.errors import StropError
from strop.evaluation.answers.symbolic_worker import READY

Kind = Literal["expression", "equation", "close"]

DEADLINE_S = 3.0
START_DEADLINE_S = 120.0
LONGEST_EXPRESSION = 500


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether two answers are the same; `correct` is None where that was not decided, and `reason` says why."""

    correct: bool | None
    reason: str | None = None


class SymbolicComparer:
    """A worker process that compares expressions, started at the first question and replaced after a timeout."""

    def __init__(self, deadline_s: float = DEADLINE_S) -> None:
        """Prepare a comparer; no process is started yet.

        Args:
            deadline_s: Seconds that one comparison may take.
        """
        self.deadline_s = deadline_s
        self._lock = threading.Lock()
        self._worker: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    def compare(self, kind: Kind, first: str, second: str) -> Verdict:
        """Say whether two expressions or two equations are equal, or two constants close.

        Raises:
            StropError: The worker process cannot be started.
        """
        if max(len(first), len(second)) > LONGEST_EXPRESSION:
            return Verdict(None, f"longer than {LONGEST_EXPRESSION} characters")
        request = json.dumps({"kind": kind, "first": first, "second": second}).encode() + b"\n"
        with self._lock:
            worker = self._running()
            assert worker.stdin is not None
            try:
                worker.stdin.write(request)
                worker.stdin.flush()
            except BrokenPipeError:
                self._end()
                return Verdict(None, "the comparison ended without a verdict")
            line = self._line(worker, self.deadline_s)
            if line is None:
                self._end()
                return Verdict(None, f"not decided within {self.deadline_s:g} s")
        if not line:
            self.close()
            return Verdict(None, "the comparison ran out of memory")
        reply = json.loads(line)
        return Verdict(reply["equal"], reply["reason"])

    def close(self) -> None:
        """End the worker process, if there is one."""
        with self._lock:
            self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._owner != os.getpid():
            # A fork shares the pipes of its parent's worker: leave that one alone.
            self._worker, self._owner = None, os.getpid()
        if self._worker is None or self._worker.poll() is not None:
            self._worker = subprocess.Popen(
                [sys.executable, "-m", "strop.evaluation.answers.symbolic_worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_environment(),
            )
            if self._line(self._worker, START_DEADLINE_S) != READY.encode() + b"\n":
                self._end()
                raise StropError(
                    "the process that compares expressions did not start", fix="check that math-verify and sympy import"
                )
        return self._worker

    @staticmethod
    def _line(worker: subprocess.Popen[bytes], deadline_s: float) -> bytes | None:
        """Return the worker's next line, empty if it died, None if it stays silent."""
        assert worker.stdout is not None
        return worker.stdout.readline() if wait([worker.stdout], deadline_s) else None  # type: ignore[list-item]

    def _end(self) -> None:
        if self._worker is not None and self._owner == os.getpid():
            self._worker.kill()
            self._worker.communicate()
        self._worker = None


def _environment() -> dict[str, str]:
    """Let the worker import strop from where this process did, on one thread."""
    path = [entry for entry in sys.path if entry]
    return os.environ | {"PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}


_shared = SymbolicComparer()
atexit.register(_shared.close)


@lru_cache(maxsize=16_384)
def compare_symbolically(kind: Kind, first: str, second: str) -> Verdict:
    """Compare through the process that this interpreter shares; verdicts are remembered. See `SymbolicComparer`."""
    return _shared.compare(kind, first, second)
