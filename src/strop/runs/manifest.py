"""The manifest: what happened to a run, in order. Append-only, flushed line by line, safe to read at any moment."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def now() -> str:
    """Return the time as ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Manifest:
    """Writes events to ``manifest.jsonl``; one writer at a time, the run's lock sees to that."""

    def __init__(self, path: Path) -> None:
        """Open the manifest at `path` and cut off a line that a killed writer left half written."""
        self.path = path
        if path.exists():
            whole = path.read_bytes()
            end = whole.rfind(b"\n") + 1
            if end != len(whole):
                with path.open("rb+") as stream:
                    stream.truncate(end)

    def append(self, event: str, **facts: Any) -> None:
        """Write one event with its time and flush it to the disk."""
        line = json.dumps({"time": now(), "event": event, **facts}, ensure_ascii=False)
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            before = os.fstat(handle).st_size
            content = (line + "\n").encode("utf-8", "replace")
            if os.write(handle, content) < len(content):
                # The disk filled up within the line: half an event must not stay in front of the next one.
                os.ftruncate(handle, before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            os.fsync(handle)
        finally:
            os.close(handle)


def read_manifest(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a manifest, oldest first; a half-written last line is not an event."""
    if not path.exists():
        return
    with path.open("rb") as stream:
        for line in stream:
            if line.endswith(b"\n"):
                yield json.loads(line)
