"""The file of annotations: one SQLite database, bound to one set of pairs, to which events are only ever added.

An annotator's version is the number of their last event. Whoever writes says which version they saw; a write on an
older one is refused, so that two windows can never overwrite each other's marks.
"""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from strop.errors import StropError, UserError
from strop.judging.pairs import HumanPair
from strop.judging.rubric import Rubric
from strop.web.blinding import Response, pair_key, set_hash
from strop.web.marks import Event, Kind, standing

APPLICATION = 0x53545250
"""What `PRAGMA application_id` says of a file of annotations: "STRP"."""
SCHEMA = 1
BUSY_TIMEOUT_S = 30.0
QUESTION = "Which response is better?"
_NAME = re.compile(r"\w[\w.-]{0,39}")
_TABLES = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE pairs (key TEXT PRIMARY KEY, cluster TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE annotators (name TEXT PRIMARY KEY, token TEXT NOT NULL UNIQUE) WITHOUT ROWID",
    "CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, annotator TEXT NOT NULL, key TEXT NOT NULL,"
    " kind TEXT NOT NULL, body TEXT NOT NULL, shown_left TEXT NOT NULL, at TEXT NOT NULL)",
    "CREATE INDEX events_by_annotator ON events (annotator, seq)",
)


class Outdated(StropError):
    """A write was based on a version that is no longer the last one; nothing was written."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is asked of the annotators; kept in the file, so that nobody is asked something else halfway.

    Attributes:
        question: The question above the responses.
        ties: Whether "equally good" is offered.
        rubric: The label of the rubric whose criteria may be marked; empty for none.
        criteria: Key, name and description of each criterion.
    """

    question: str
    ties: bool = False
    rubric: str = ""
    criteria: tuple[tuple[str, str, str], ...] = ()


class AnnotationFile:
    """One file of annotations; several processes may read and write it at once."""

    def __init__(self, path: Path) -> None:
        """Open the file at `path`; see `open_annotations` and `create_annotations`."""
        self.path = path
        self._guard = threading.RLock()
        with self._named_errors():
            self._connection = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            (application,) = self._connection.execute("PRAGMA application_id").fetchone()
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != APPLICATION:
            self.close()
            raise _no_annotations(path)
        if version > SCHEMA:
            self.close()
            raise UserError(f"{path} has schema {version}, this strop knows up to {SCHEMA}", fix="use the newer strop")
        self.is_empty = not tables
        with self._named_errors():
            self._connection.execute("PRAGMA journal_mode = WAL")
            # A mark is a person's work: it must survive a power cut, and one flush a click is nothing.
            self._connection.execute("PRAGMA synchronous = FULL")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        """Return the open file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if "not a database" in str(error):
                raise _no_annotations(self.path) from error
            raise UserError(f"cannot use the annotation file {self.path}", why=str(error)) from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._guard, self._named_errors():
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # A full disk rolls back by itself.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._guard, self._named_errors():
            return self._connection.execute(query, values).fetchall()

    def fill(self, pairs: Sequence[HumanPair], source: Path, fields: Mapping[str, str], settings: Settings) -> None:
        """Bind an empty file to a set of pairs that was read from `source` with these renames of fields."""
        meta = {
            "set_hash": set_hash(pairs),
            "pairs_file": str(source.resolve()),
            "fields": json.dumps(dict(fields)),
            "settings": json.dumps(asdict(settings)),
            "created": _now(),
        }
        with self._writing() as connection:
            for statement in _TABLES:
                connection.execute(statement)
            connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            # Lone surrogates are legal in JSON files, and SQLite refuses them: group names are kept as JSON.
            rows = [(pair_key(pair.id), json.dumps(pair.group)) for pair in pairs]
            connection.executemany("INSERT INTO pairs VALUES (?, ?)", rows)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {SCHEMA}")
        # It holds tokens and what experts wrote.
        self.path.chmod(0o600)
        self.is_empty = False

    @property
    def meta(self) -> dict[str, str]:
        """The set's hash, the file that it was read from, when the annotations began."""
        return dict(self._rows("SELECT name, value FROM meta"))

    @property
    def settings(self) -> Settings:
        """What is asked of the annotators."""
        row = json.loads(self.meta["settings"])
        return Settings(row["question"], row["ties"], row["rubric"], tuple(tuple(each) for each in row["criteria"]))

    def groups(self) -> dict[str, str]:
        """Return each pair's group by the pair's key, in the order of the keys."""
        rows = self._rows("SELECT key, cluster FROM pairs ORDER BY key")
        return {key: json.loads(group) for key, group in rows}

    def require_pairs(self, pairs: Sequence[HumanPair], source: Path) -> None:
        """Refuse another set of pairs than the one that this file belongs to.

        Raises:
            UserError: The set differs; both are named.
        """
        meta, given = self.meta, set_hash(pairs)
        if meta["set_hash"] != given:
            raise UserError(
                f"{self.path} holds annotations of another set of pairs",
                value=f"{source} ({len(pairs):,} pairs, {given[:12]})",
                why=f"it belongs to {meta['pairs_file']} ({len(self.groups()):,} pairs, {meta['set_hash'][:12]})",
                fix="give the pairs that it belongs to, or another file of annotations with --out",
            )

    def add_annotators(self, names: Sequence[str]) -> None:
        """Give each new name a token; those that are known keep theirs.

        Raises:
            UserError: A name has another form, or occurs twice.
        """
        for name in names:
            if not _NAME.fullmatch(name):
                fix = "up to 40 letters, digits, dots, dashes and underscores, beginning with a letter or digit"
                raise UserError("an annotator's name cannot be used", value=name, fix=fix)
        if len(set(names)) < len(names):
            raise UserError("an annotator's name is given twice", value=", ".join(names))
        with self._writing() as connection:
            rows = [(name, secrets.token_urlsafe(18)) for name in names]
            connection.executemany("INSERT OR IGNORE INTO annotators VALUES (?, ?)", rows)

    def tokens(self) -> dict[str, str]:
        """Return each annotator's token, by name."""
        return dict(self._rows("SELECT name, token FROM annotators ORDER BY name"))

    def annotator_of(self, token: str) -> str | None:
        """Return whose token it is; None for an unknown one."""
        names = (name for name, known in self.tokens().items() if secrets.compare_digest(known, token))
        return next(names, None)

    def events(self, annotator: str | None = None) -> list[Event]:
        """Return the events in order: all of them, or one annotator's."""
        query = "SELECT seq, annotator, key, kind, body, shown_left, at FROM events"
        if annotator is None:
            rows = self._rows(f"{query} ORDER BY seq")
        else:
            rows = self._rows(f"{query} WHERE annotator = ? ORDER BY seq", annotator)
        return [Event(seq, who, key, kind, json.loads(body), left, at) for seq, who, key, kind, body, left, at in rows]

    def version(self, annotator: str) -> int:
        """Return the number of an annotator's last event; 0 before the first."""
        ((last,),) = self._rows("SELECT coalesce(max(seq), 0) FROM events WHERE annotator = ?", annotator)
        return int(last)

    def add(
        self,
        annotator: str,
        *,
        version: int,
        key: str,
        kind: Kind,
        body: Mapping[str, Any],
        shown_left: Response,
    ) -> int:
        """Keep one event and return the annotator's new version; it is on the disk when this returns.

        Args:
            annotator: Who.
            version: The version that the event is based on.
            key: The pair.
            kind: What kind of event.
            body: What it says; see `strop.web.marks.Event`.
            shown_left: Which response stands on the left.

        Raises:
            Outdated: The annotator has written since.
        """
        with self._writing() as connection:
            self._require_version(connection, annotator, version)
            return _insert(connection, annotator, key, kind, body, shown_left)

    def undo(self, annotator: str, *, version: int) -> Event | None:
        """Take back an annotator's last standing event and return it; None where nothing is left to take back.

        Raises:
            Outdated: The annotator has written since.
        """
        with self._writing() as connection:
            self._require_version(connection, annotator, version)
            events = standing(self.events(annotator))
            if not events:
                return None
            last = events[-1]
            _insert(connection, annotator, last.key, "undo", {"undoes": last.seq}, last.shown_left)
        return last

    def _require_version(self, connection: sqlite3.Connection, annotator: str, version: int) -> None:
        row = connection.execute("SELECT coalesce(max(seq), 0) FROM events WHERE annotator = ?", (annotator,))
        (last,) = row.fetchone()
        if last != version:
            raise Outdated(f"this page shows version {version}, and version {last} is on the disk")


def open_annotations(path: Path) -> AnnotationFile:
    """Open a file of annotations that exists.

    Raises:
        UserError: There is none at `path`.
    """
    if not path.is_file():
        raise UserError("there is no such file of annotations", value=str(path), fix="strop annotate PAIRS makes one")
    file = AnnotationFile(path)
    if file.is_empty:
        file.close()
        raise _no_annotations(path)
    return file


def annotations_for(
    pairs: Sequence[HumanPair],
    source: Path,
    path: Path,
    *,
    fields: Mapping[str, str] | None = None,
    question: str | None = None,
    ties: bool | None = None,
    rubric: Rubric | None = None,
) -> AnnotationFile:
    """Open the annotations of a set of pairs, or begin them.

    Args:
        pairs: The pairs.
        source: The file that they were read from.
        path: The file of annotations.
        fields: Renames that `source` was read with.
        question: What is asked; None for what the file says, or `QUESTION`.
        ties: Whether "equally good" is offered; None for what the file says, or no.
        rubric: Whose criteria may be marked; None for what the file says, or none.

    Raises:
        UserError: The file belongs to another set of pairs, or asks something else; nothing in it was changed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = AnnotationFile(path)
    try:
        if file.is_empty:
            criteria = rubric.criteria if rubric else ()
            rows = tuple((each.key, each.name, each.description) for each in criteria)
            settings = Settings(question or QUESTION, bool(ties), rubric.label if rubric else "", rows)
            file.fill(pairs, source, fields or {}, settings)
        file.require_pairs(pairs, source)
        given = {"question": question, "ties": ties, "rubric": rubric.label if rubric else None}
        _require_settings(file, {name: value for name, value in given.items() if value is not None})
    except BaseException:
        file.close()
        raise
    return file


def _require_settings(file: AnnotationFile, given: Mapping[str, object]) -> None:
    kept = asdict(file.settings)
    for name, value in given.items():
        if kept[name] != value:
            raise UserError(
                f"{file.path} was begun with another --{name}",
                value=value,
                why=f"it was begun with {kept[name]!r}: annotators must not be asked something else halfway",
                fix=f"leave --{name} out to go on, or begin another file with --out",
            )


def _insert(
    connection: sqlite3.Connection,
    annotator: str,
    key: str,
    kind: Kind,
    body: Mapping[str, Any],
    shown_left: Response,
) -> int:
    cursor = connection.execute(
        "INSERT INTO events (annotator, key, kind, body, shown_left, at) VALUES (?, ?, ?, ?, ?, ?)",
        (annotator, key, kind, json.dumps(body), shown_left, _now()),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _no_annotations(path: Path) -> UserError:
    return UserError(
        "this is no file of annotations",
        value=str(path),
        fix="give the .sqlite file that strop annotate PAIRS wrote, or a new name with --out",
    )
