"""One writer per run: a lock that names its holder and that the kernel releases when the holder dies."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from strop.errors import UserError


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold the lock at `path` while the block runs.

    The file stays behind, unlocked: removing it would let two later writers lock two different files.

    Raises:
        UserError: Another process holds it; the message names its pid, host, command and since when.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _refusal(path) from None
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps(_holder()).encode())
        yield
    finally:
        os.close(handle)


def _holder() -> dict[str, str | int]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _refusal(path: Path) -> UserError:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        who = "pid {pid} on {host}, since {since}: {command}".format(**holder)
    except (ValueError, KeyError):
        # The holder has the lock but has not written its name yet.
        who = "a process that has just started"
    return UserError(
        f"another process writes to this run ({who})",
        value=str(path.parent),
        why="two writers would mix their artifacts",
        fix="wait for it, stop it, or choose another run name with --name",
    )
