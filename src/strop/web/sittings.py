"""Who sits where: one window for each annotator at a time, and a clear word to the other one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from strop.errors import StropError

SILENT_S = 45.0
"""A window that has not been heard of for so long is taken to be gone; an open one is heard every 15 seconds."""


class Elsewhere(StropError):
    """The annotator's token is in use in another window."""


@dataclass(slots=True)
class _Sitting:
    session: str
    seen: float


class Sittings:
    """The window in which each annotator works at present."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sittings: dict[str, _Sitting] = {}

    def claim(self, annotator: str, session: str, *, take: bool = False) -> None:
        """Say that `session` is where the annotator works.

        Args:
            annotator: Who.
            session: The window.
            take: Whether it takes over from another window that is still open.

        Raises:
            Elsewhere: Another window is open and `take` is false.
        """
        now = self._clock()
        current = self._sittings.get(annotator)
        if current is not None and current.session != session and not take and now - current.seen < SILENT_S:
            ago = round(now - current.seen)
            raise Elsewhere(
                f"This address is open in another window, last active {ago} s ago. Everything that was marked there is "
                "saved. Only one window works at a time."
            )
        self._sittings[annotator] = _Sitting(session, now)

    def leave(self, annotator: str, session: str) -> None:
        """Say that `session` was closed."""
        current = self._sittings.get(annotator)
        if current is not None and current.session == session:
            del self._sittings[annotator]
