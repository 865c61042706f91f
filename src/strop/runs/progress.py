"""What a run says while it works: bars on a terminal, plain lines elsewhere, nothing when asked to be quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY_S = 30.0

Advance = Callable[[int], None]


class Reporter:
    """Tells a person on stderr how a run gets on; stdout stays free for results."""

    def __init__(self, *, quiet: bool = False) -> None:
        """Take stderr as it is now; `quiet` drops everything but notices."""
        self._quiet = quiet
        self._console = Console(file=sys.stderr, highlight=False)

    def say(self, text: str) -> None:
        """Print a line of progress."""
        if not self._quiet:
            self._console.print(escape(text), soft_wrap=True)

    def notice(self, text: str) -> None:
        """Print a line that a person must see even when the run is quiet."""
        self._console.print(escape(text), soft_wrap=True)

    @contextmanager
    def progress(self, description: str, total: int | None = None) -> Iterator[Advance]:
        """Show progress while the block runs.

        Args:
            description: What is being done.
            total: How many steps there are, where that is known.

        Yields:
            A function that takes the number of further steps done.
        """
        if self._quiet:
            yield lambda _: None
        elif self._console.is_terminal:
            with self._bar(description, total) as advance:
                yield advance
        else:
            yield self._lines(description, total)

    @contextmanager
    def _bar(self, description: str, total: int | None) -> Iterator[Advance]:
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(TextColumn("  {task.description}"), *columns, console=self._console, transient=True) as bars:
            task = bars.add_task(escape(description), total=total)
            yield lambda steps: bars.advance(task, steps)

    def _lines(self, description: str, total: int | None) -> Advance:
        done, last = 0, time.monotonic()

        def advance(steps: int) -> None:
            nonlocal done, last
            done += steps
            if time.monotonic() - last >= LINE_EVERY_S:
                last = time.monotonic()
                self.say(f"  {description}: {done}" + ("" if total is None else f" of {total}"))

        return advance
