"""What a stage leaves behind: a folder of files that never changes again, known by the hash of its content."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strop.errors import UserError, nearest
from strop.records.tables import read_table
from strop.runs.content import files_of


@dataclass(frozen=True, slots=True)
class Artifact:
    """A published folder.

    Attributes:
        name: The name of the stage that made it.
        folder: Where it lies, ``RUN/stages/NN-name``.
        digest: The hash of its files' relative paths and bytes.
    """

    name: str
    folder: Path
    digest: str

    def path(self, file: str) -> Path:
        """Return the path of one of its files or subfolders.

        Raises:
            UserError: It holds no such file.
        """
        path = self.folder / file
        if not path.exists():
            held = [entry.relative_to(self.folder).as_posix() for entry in files_of(self.folder)]
            close = nearest(file, held)
            raise UserError(
                f"the artifact {self.name!r} holds no such file",
                value=file,
                fix=f"did you mean {close!r}?" if close else None,
                alternatives=held,
            )
        return path

    def rows(self, file: str = "rows.jsonl") -> list[dict[str, Any]]:
        """Return the rows of one of its tables."""
        return read_table(self.path(file))

    def json(self, file: str) -> Any:
        """Return the content of one of its JSON files."""
        return json.loads(self.path(file).read_text(encoding="utf-8"))
