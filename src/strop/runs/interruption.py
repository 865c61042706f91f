"""Signals end a run as `Stopped`, at a moment when nothing is half written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

from strop.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Turns the first SIGINT or SIGTERM into `Stopped`; the second one acts as if strop were not there.

    The stop is raised where the program is, except inside `shielded` blocks. `check` raises it at the next safe
    point when a block held it back or a library swallowed it.
    """

    def __init__(self) -> None:
        """Start with nothing received and no handler installed."""
        self._received: str | None = None
        self._shields = 0
        self._previous: dict[signal.Signals, Callable[[int, FrameType | None], Any] | int | None] = {}

    def __enter__(self) -> Self:
        # Python delivers signals to the main thread only, and only there may a handler be set.
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _receive(self, number: int, _: FrameType | None) -> None:
        self._received = signal.Signals(number).name
        self._restore()
        if not self._shields:
            self.check()

    def check(self) -> None:
        """Raise the stop if a signal came.

        Raises:
            Stopped: A signal came.
        """
        if self._received is not None:
            raise Stopped(
                f"stopped by {self._received}",
                why="everything that was finished is kept",
                fix="run the same command again to continue",
            )

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Hold a signal back; the first `check` after the block raises its stop."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
