"""Run a command that must not outlive the process that wants it: a script of its own, started by path.

python watchdog.py PARENT COMMAND...

It leads the process group that the command and all its workers belong to. However process PARENT ends, SIGKILL
included, the group is asked to end and then killed. What it watches is whose child it is: that needs no cooperation
of the parent, works on Linux and macOS alike, and unlike Linux's own death signal does not fire when merely the
thread that started it ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

POLL_S = 0.2
STOP_WAIT_S = 20.0
"""Seconds between asking the group to end and killing it."""


def main(arguments: list[str]) -> int:
    """Run the command until it ends or the parent does; return the command's exit code."""
    parent, command = int(arguments[0]), arguments[1:]
    # A signal to the group is for the command: the watchdog stays until that has ended. The handler, unlike an
    # ignored signal, is not inherited by the command.
    signal.signal(signal.SIGTERM, lambda *_: None)
    running = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    while running.poll() is None:
        if os.getppid() != parent:
            _end_group(running)
        time.sleep(POLL_S)
    return running.returncode if running.returncode >= 0 else 128 - running.returncode


def _end_group(running: subprocess.Popen[bytes]) -> None:
    """Ask everything in this process group to end, and kill what has not: at last the watchdog itself."""
    os.killpg(0, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        running.wait(STOP_WAIT_S)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
