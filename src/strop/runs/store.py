"""The call store: every model call ever answered, kept before it is used and shared by all runs of a workspace.

One SQLite file. A call is known by its key (a hash of model revision, prompt, sampling and sample index), so the same
question is never paid for twice. Failures are kept in a table of their own and are never returned as answers.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from strop.errors import Stopped, UserError
from strop.runs.budget import UNLIMITED, Budget, Ledger, Spent
from strop.runs.calls import (
    CALL_COLUMNS,
    FAILURE_COLUMNS,
    Ability,
    FailedCall,
    FailureCount,
    StoredCall,
    StoreSizes,
    User,
    answer_row,
    call_of,
    failure_of,
    failure_row,
    marks,
    storable,
)

BUSY_TIMEOUT_S = 120.0
KEYS_PER_QUERY = 500

# Step N makes schema version N from N - 1. Never edit one that was released: add the next.
_MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE calls (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, model TEXT NOT NULL, revision TEXT NOT NULL,
        request TEXT NOT NULL, sample INTEGER NOT NULL, text TEXT NOT NULL, finish TEXT NOT NULL,
        prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, latency_s REAL NOT NULL,
        created REAL NOT NULL, asked_by INTEGER);
    CREATE TABLE failures (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL, model TEXT NOT NULL, revision TEXT NOT NULL,
        request TEXT NOT NULL, sample INTEGER NOT NULL, kind TEXT NOT NULL, message TEXT NOT NULL,
        transient INTEGER NOT NULL, latency_s REAL NOT NULL, created REAL NOT NULL, asked_by INTEGER);
    CREATE INDEX failures_by_key ON failures (key);
    CREATE TABLE runs (id TEXT PRIMARY KEY, folder TEXT NOT NULL);
    CREATE TABLE users (
        id INTEGER PRIMARY KEY, run TEXT NOT NULL, stage TEXT NOT NULL, fingerprint TEXT NOT NULL,
        UNIQUE (run, stage, fingerprint));
    CREATE TABLE uses (user INTEGER NOT NULL, call INTEGER NOT NULL, PRIMARY KEY (user, call)) WITHOUT ROWID;
    CREATE INDEX uses_by_call ON uses (call);
    """,
    """
    ALTER TABLE calls ADD COLUMN cached_tokens INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE calls ADD COLUMN money REAL;
    ALTER TABLE calls ADD COLUMN log_probs TEXT;
    ALTER TABLE failures ADD COLUMN final INTEGER NOT NULL DEFAULT 1;
    CREATE TABLE abilities (
        revision TEXT NOT NULL, name TEXT NOT NULL, able INTEGER NOT NULL, detail TEXT NOT NULL, created REAL NOT NULL,
        PRIMARY KEY (revision, name)) WITHOUT ROWID
    """,
)


class CallStore:
    """The store of one workspace; several processes may read and write it at once.

    A store is opened for the whole workspace; `for_stage` gives a view on the same connection that also records which
    stage used which call and holds the run to its budget.
    """

    def __init__(self, path: Path) -> None:
        """Open the store at `path`, made or migrated where needed.

        Raises:
            UserError: The file is no store, or a newer strop wrote it.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._guard = threading.RLock()
        self._user: User | None = None
        self.ledger = Ledger(UNLIMITED)
        """What the run of this view has spent, and its limits."""
        with self._named_errors():
            # Autocommit mode: transactions are opened by hand, with the write lock taken at once.
            self._connection = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            # A process that dies loses nothing at NORMAL either; FULL also survives a power cut, and one flush for
            # each batch of answers is nothing beside the batch.
            self._connection.execute("PRAGMA synchronous = FULL")
            self._migrate()

    def _migrate(self) -> None:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        known = len(_MIGRATIONS)
        if version > known:
            raise UserError(
                f"the call store has schema {version}, this strop knows up to {known}",
                value=str(self.path),
                fix="use the newer strop that wrote it, or another workspace with --workspace",
            )
        if version == known:
            return
        with self._transaction():
            # Another process may have migrated while this one waited for the write lock.
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            for step in _MIGRATIONS[version:]:
                for statement in step.split(";"):
                    self._connection.execute(statement)
            self._connection.execute(f"PRAGMA user_version = {known}")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._guard:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # A full disk rolls back by itself.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._named_errors(), self._transaction() as connection:
            yield connection

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise _store_error(self.path, error) from error

    def for_stage(self, user: User, *, budget: Budget = UNLIMITED) -> CallStore:
        """Return a view of this store that records `user` with every call it reads or writes.

        Args:
            user: The stage whose lineage the calls belong to.
            budget: Limits over everything that the run has asked, in this execution or before.
        """
        view = object.__new__(CallStore)
        view.__dict__.update(self.__dict__)
        view._user = user
        view.ledger = Ledger(budget, Spent() if budget is UNLIMITED else self.spent(user.run))
        return view

    def read_many(self, keys: Sequence[str]) -> dict[str, StoredCall]:
        """Return the answers that the store holds, by key, without recording a use."""
        return {call.key: call for call in self._select(keys)}

    def get_many(self, keys: Sequence[str]) -> dict[str, StoredCall]:
        """Return the answers that the store holds, by key; keys without an answer are absent."""
        found = self.read_many(keys)
        if self._user is not None and found:
            with self._writing() as connection:
                self._record_uses(connection, self._user, found)
        return found

    def _select(self, keys: Sequence[str]) -> Iterator[StoredCall]:
        for start in range(0, len(keys), KEYS_PER_QUERY):
            some = keys[start : start + KEYS_PER_QUERY]
            marks = ",".join("?" * len(some))
            with self._guard:
                rows = self._connection.execute(f"SELECT {CALL_COLUMNS} FROM calls WHERE key IN ({marks})", some)
                yield from [call_of(row) for row in rows]

    def put_many(self, calls: Sequence[StoredCall | FailedCall]) -> dict[str, StoredCall]:
        """Store answers and failures in one transaction.

        Returns:
            The answers as the store holds them, by key: where another process answered the same call first, its
            answer stands, so that every run of the workspace sees one and the same.

        Raises:
            Stopped: The disk is full; nothing of this batch is stored.
        """
        answers = [storable(call) for call in calls if isinstance(call, StoredCall)]
        failures = [call for call in calls if isinstance(call, FailedCall)]
        with self._writing() as connection:
            user = None if self._user is None else self._user_id(connection, self._user)
            added = connection.executemany(
                f"INSERT INTO calls ({CALL_COLUMNS}, asked_by) VALUES ({marks(15)}) ON CONFLICT (key) DO NOTHING",
                [(*answer_row(call), user) for call in answers],
            ).rowcount
            connection.executemany(
                f"INSERT INTO failures ({FAILURE_COLUMNS}, asked_by) VALUES ({marks(12)})",
                [(*failure_row(call), user) for call in failures],
            )
            if self._user is not None:
                self._record_uses(connection, self._user, [call.key for call in answers])
        for call in answers:
            self.ledger.add(call.spent)
        if added == len(answers) or not answers:
            return {call.key: call for call in answers}
        return self.read_many([call.key for call in answers])

    def abilities(self, revision: str) -> dict[str, Ability]:
        """Return what is known of a server's abilities, by name."""
        query = "SELECT name, able, detail FROM abilities WHERE revision = ?"
        with self._guard:
            rows = self._connection.execute(query, (revision,)).fetchall()
        return {name: Ability(bool(able), detail) for name, able, detail in rows}

    def record_ability(self, revision: str, name: str, ability: Ability) -> None:
        """Keep what was found out about a server, so that it is not asked again."""
        row = (revision, name, int(ability.able), ability.detail, time.time())
        with self._writing() as connection:
            connection.execute("INSERT OR REPLACE INTO abilities VALUES (?, ?, ?, ?, ?)", row)

    def _user_id(self, connection: sqlite3.Connection, user: User) -> int:
        row = (user.run, user.stage, user.fingerprint)
        connection.execute("INSERT OR IGNORE INTO users (run, stage, fingerprint) VALUES (?, ?, ?)", row)
        query = "SELECT id FROM users WHERE run = ? AND stage = ? AND fingerprint = ?"
        (identifier,) = connection.execute(query, row).fetchone()
        return int(identifier)

    def _record_uses(self, connection: sqlite3.Connection, user: User, keys: Iterable[str]) -> None:
        identifier = self._user_id(connection, user)
        connection.executemany(
            "INSERT OR IGNORE INTO uses (user, call) SELECT ?, id FROM calls WHERE key = ?",
            [(identifier, key) for key in keys],
        )

    def failures(self, keys: Sequence[str]) -> list[FailedCall]:
        """Return the recorded failures of calls, oldest first."""
        found: list[FailedCall] = []
        for start in range(0, len(keys), KEYS_PER_QUERY):
            some = keys[start : start + KEYS_PER_QUERY]
            query = f"SELECT {FAILURE_COLUMNS} FROM failures WHERE key IN ({marks(len(some))}) ORDER BY id"
            with self._guard:
                found += [failure_of(row) for row in self._connection.execute(query, some)]
        return found

    def calls_of(self, user: User, *, limit: int | None = None) -> Iterator[StoredCall]:
        """Yield the calls that a stage used, in the order in which they were first stored."""
        columns = ", ".join(f"calls.{name}" for name in CALL_COLUMNS.split(", "))
        query = f"""SELECT {columns} FROM calls JOIN uses ON uses.call = calls.id JOIN users ON users.id = uses.user
                    WHERE run = ? AND stage = ? AND fingerprint = ? ORDER BY calls.id LIMIT ?"""
        with self._guard:
            rows = self._connection.execute(
                query, (user.run, user.stage, user.fingerprint, -1 if limit is None else limit)
            ).fetchall()
        yield from map(call_of, rows)

    def used_by(self, user: User, *, paid: bool = False) -> Spent:
        """Return the number and the tokens of the calls that a stage used; of those it asked itself where `paid`."""
        query = """SELECT count(*), total(prompt_tokens + completion_tokens) FROM calls
                   JOIN uses ON uses.call = calls.id JOIN users ON users.id = uses.user
                   WHERE run = ? AND stage = ? AND fingerprint = ?"""
        query += " AND asked_by = users.id" if paid else ""
        with self._guard:
            row = self._connection.execute(query, (user.run, user.stage, user.fingerprint)).fetchone()
        return Spent(int(row[0]), int(row[1]))

    def spent(self, run: str) -> Spent:
        """Return what a run paid for itself, over all its executions; answers found in the store cost nothing."""
        query = """SELECT count(*), total(prompt_tokens + completion_tokens), total(money), count(*) - count(money)
                   FROM calls WHERE asked_by IN (SELECT id FROM users WHERE run = ?)"""
        with self._guard:
            calls, tokens, money, unpriced = self._connection.execute(query, (run,)).fetchone()
        return Spent(calls, int(tokens), money, unpriced)

    def failures_of(self, run: str) -> list[FailureCount]:
        """Return the attempts of a run that failed, by model and kind, the most frequent first."""
        query = """SELECT model, kind, count(*), total(final), total(latency_s) FROM failures
                   WHERE asked_by IN (SELECT id FROM users WHERE run = ?) GROUP BY model, kind ORDER BY count(*) DESC"""
        with self._guard:
            rows = self._connection.execute(query, (run,)).fetchall()
        return [FailureCount(model, kind, count, int(final), took) for model, kind, count, final, took in rows]

    def register_run(self, run: str, folder: Path) -> None:
        """Record where a run lives; `prune` keeps the calls of runs that are still there."""
        with self._writing() as connection:
            connection.execute("INSERT OR REPLACE INTO runs (id, folder) VALUES (?, ?)", (run, str(folder)))

    def sizes(self) -> StoreSizes:
        """Return how much the store holds."""
        gone = self._gone()
        with self._guard:
            (calls, tokens) = self._connection.execute(
                "SELECT count(*), total(prompt_tokens + completion_tokens) FROM calls"
            ).fetchone()
            (unused,) = self._connection.execute(
                f"""SELECT count(*) FROM calls WHERE id NOT IN (
                    SELECT call FROM uses JOIN users ON users.id = user WHERE run NOT IN ({marks(len(gone))}))""",
                gone,
            ).fetchone()
            (failures,) = self._connection.execute("SELECT count(*) FROM failures").fetchone()
            (runs,) = self._connection.execute("SELECT count(*) FROM runs").fetchone()
        parts = [self.path.with_name(self.path.name + suffix) for suffix in ("", "-wal")]
        size = sum(part.stat().st_size for part in parts if part.exists())
        return StoreSizes(calls, failures, unused, int(tokens), size, runs - len(gone))

    def _gone(self) -> list[str]:
        """Return the ids of the runs whose folder is gone or belongs to another run now."""
        with self._guard:
            known = self._connection.execute("SELECT id, folder FROM runs").fetchall()
        return [run for run, folder in known if run_id(Path(folder)) != run]

    def prune(self) -> int:
        """Remove the calls that no existing run refers to; return how many answers went."""
        gone = [(run,) for run in self._gone()]
        users = "(SELECT id FROM users WHERE run = ?)"
        with self._writing() as connection:
            connection.executemany(f"DELETE FROM uses WHERE user IN {users}", gone)
            connection.executemany(f"DELETE FROM failures WHERE asked_by IN {users}", gone)
            connection.executemany("DELETE FROM users WHERE run = ?", gone)
            connection.executemany("DELETE FROM runs WHERE id = ?", gone)
            removed = connection.execute("DELETE FROM calls WHERE id NOT IN (SELECT call FROM uses)").rowcount
        with self._named_errors(), self._guard:
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return int(removed)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def run_id(folder: Path) -> str | None:
    """Return the id of the run in `folder`, or None where there is no run."""
    try:
        identifier = json.loads((folder / "run.json").read_text(encoding="utf-8"))["id"]
    except (OSError, ValueError, KeyError):
        return None
    return str(identifier)


def _store_error(path: Path, error: sqlite3.DatabaseError) -> Exception:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return Stopped(
            "the call store cannot be written",
            value=str(path),
            why=f"{error}; everything stored before is kept",
            fix="free some space and run the same command again",
        )
    if code == sqlite3.SQLITE_BUSY:
        return Stopped(
            f"the call store was busy for {BUSY_TIMEOUT_S:g} s",
            value=str(path),
            fix="look for a process that hangs with it open, then run the same command again",
        )
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
        return UserError(
            "the call store cannot be used",
            value=str(path),
            why=str(error),
            fix="move the file away, or choose another workspace with --workspace",
        )
    return error
