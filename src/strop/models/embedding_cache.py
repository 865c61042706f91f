"""Vectors on disk, one SQLite file an encoder revision: keys are text hashes, no text is kept."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Row = tuple[NDArray[np.float32], int]
"""A vector, and in how many parts its text was embedded."""

SCHEMA = "CREATE TABLE IF NOT EXISTS vectors (text TEXT PRIMARY KEY, parts INTEGER NOT NULL, vector BLOB NOT NULL)"
KEYS_AT_ONCE = 500
BUSY_S = 30.0

log = logging.getLogger(__name__)


class EmbeddingCache:
    """Vectors of one encoder revision.

    Every batch is one transaction, so a killed process leaves whole vectors only. What is kept here can always be made
    again: a file that SQLite cannot read is put aside, and a vector of a wrong size counts as absent.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the file at `path`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = _open(path)
        except sqlite3.OperationalError:
            raise  # locked or not writable: the file itself may be sound
        except sqlite3.DatabaseError:
            broken = path.with_suffix(".broken")
            path.replace(broken)
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            log.warning("%s cannot be read; it is now %s, and its vectors are made again", path, broken.name)
            self._database = _open(path)

    def read(self, keys: Sequence[str]) -> dict[str, Row]:
        """Return what is known of `keys`."""
        found: dict[str, Row] = {}
        for start in range(0, len(keys), KEYS_AT_ONCE):
            some = keys[start : start + KEYS_AT_ONCE]
            query = f"SELECT text, vector, parts FROM vectors WHERE text IN ({','.join('?' * len(some))})"
            for key, blob, parts in self._database.execute(query, some):
                vector = np.frombuffer(blob, np.float32)
                if np.isfinite(vector).all():
                    found[key] = vector, parts
        return found

    def write(self, rows: Mapping[str, Row]) -> None:
        """Keep `rows`, all or none of them."""
        values = [(key, parts, vector.astype(np.float32).tobytes()) for key, (vector, parts) in rows.items()]
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", values)

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=BUSY_S)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(SCHEMA)
        database.execute("SELECT count(*) FROM vectors").fetchone()
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database
