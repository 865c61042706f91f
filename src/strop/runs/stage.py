"""What a stage function gets as its first argument: where to write, where to ask, what to draw from, whom to tell."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from strop.records.tables import write_table
from strop.runs.interruption import Interruption
from strop.runs.manifest import Manifest
from strop.runs.progress import Advance, Reporter
from strop.runs.seeds import derive_seed
from strop.runs.store import CallStore


class Stage:
    """One running stage of a run.

    Attributes:
        name: The name of the stage.
        folder: Where its artifact is written; published in one step when the stage function returns.
        work: A folder that survives kills, for checkpoints; removed when the stage is published.
        store: The call store; what is read from it or written to it counts as used by this stage.
        drew: Whether the stage asked for a seed, so that its artifact depends on the run seed.
    """

    def __init__(
        self,
        name: str,
        *,
        place: str,
        folder: Path,
        work: Path,
        store: CallStore,
        seed: int,
        manifest: Manifest,
        reporter: Reporter,
        interruption: Interruption,
    ) -> None:
        """Make the two folders; the run calls this, a stage function only uses the result."""
        self.name, self.folder, self.work, self.store = name, folder, work, store
        self._place = place
        self._seed, self._manifest, self._reporter, self._interruption = seed, manifest, reporter, interruption
        work.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True)
        # A stage that goes on from a checkpoint may have drawn before the kill and need not draw again.
        self.drew = any(work.iterdir())

    def seed(self, stream: str) -> int:
        """Return the seed of a named stream of this run, an integer in [0, 2**31)."""
        self.drew = True
        return derive_seed(self._seed, stream)

    @contextmanager
    def progress(self, description: str, total: int | None = None) -> Iterator[Advance]:
        """Show progress while the block runs.

        Args:
            description: What is being done.
            total: How many steps there are, where that is known.

        Yields:
            A function that takes the number of further steps done. Calling it is also a safe point: a signal that
            came in the meantime stops the stage there.
        """
        with self._reporter.progress(description, total) as advance:
            yield self._checked(advance)

    def _checked(self, advance: Callable[[int], None]) -> Advance:
        def step(steps: int) -> None:
            advance(steps)
            self._interruption.check()

        return step

    def note(self, **facts: Any) -> None:
        """Write facts about this stage into the manifest; they must be JSON."""
        self._manifest.append("noted", stage=self._place, facts=facts)

    def write_rows(self, rows: Iterable[Mapping[str, Any]], file: str = "rows.jsonl") -> None:
        """Write a table into the artifact; the suffix of `file` decides its format."""
        write_table(self.folder / file, rows)

    def write_json(self, content: Mapping[str, Any], file: str) -> None:
        """Write a JSON file into the artifact."""
        text = json.dumps(content, indent=1, ensure_ascii=False)
        (self.folder / file).write_text(text + "\n", encoding="utf-8")
