"""Tables of rows on disk: JSONL, JSON arrays, Parquet and, for reading, CSV; written whole or not at all.

The suffix decides the format: ``.jsonl`` (one object a line), ``.json`` (an array, indent 4 and ASCII escapes: the
published form), ``.csv`` (a header, then one row a record; every value is text), ``.parquet``; ``.gz`` may follow all
but the last.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from strop.errors import Stopped, UserError, nearest
from strop.records.rows import Identifier, Row, identifier

KINDS = (".jsonl", ".json", ".parquet", ".csv")
WRITTEN = (".jsonl", ".json", ".parquet", ".jsonl.gz", ".json.gz")
SUFFIXES = (*WRITTEN, ".csv", ".csv.gz")
PARQUET_ROWS_PER_GROUP = 10_000


def table_kind(path: Path) -> str:
    """Return the format of a table that can be written: ``.jsonl``, ``.json`` or ``.parquet``.

    Raises:
        UserError: Its name tells none, or CSV, which holds neither lists nor messages.
    """
    kind = _kind(path)
    if kind == ".csv":
        raise UserError(
            "CSV is read, not written",
            value=str(path),
            why="its cells hold neither lists nor messages",
            alternatives=WRITTEN,
        )
    return kind


def _kind(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    for kind in KINDS:
        if name.endswith(kind):
            return kind
    raise UserError("cannot tell the format of a table from its name", value=str(path), alternatives=SUFFIXES)


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        shown = text.strip()[:80]
        raise UserError(
            f"{where}: not valid JSON ({error.msg} at column {error.colno})",
            value=shown,
            fix="repair or remove this line; every other line is left as it is",
        ) from None


def _iter_lines(path: Path, stream: io.TextIOBase) -> Iterator[Any]:
    blank: int | None = None
    for number, line in enumerate(stream, 1):
        if not line.strip():
            blank = blank or number
            continue
        if blank is not None:
            raise UserError(f"{path}, line {blank}: an empty line inside the table", fix="remove the line")
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = _parse(line, f"{path}, line {number}")
        yield row if isinstance(row, dict) else _object(row, f"{path}, line {number}")


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: a row must be a JSON object", value=value)
    return value


def _iter_csv(path: Path, stream: io.TextIOBase) -> Iterator[dict[str, Any]]:
    """Yield the records of a CSV file, every value as text; an empty cell is empty text."""
    reader = csv.reader(stream, strict=True)
    header: list[str] | None = None
    start, blank = 1, 0
    for record in reader:
        # A quoted value may hold line breaks: a record is named by the line on which it begins.
        line, start = start, reader.line_num + 1
        if not record:
            blank = blank or line
        elif blank:
            raise UserError(f"{path}, line {blank}: an empty line inside the table", fix="remove the line")
        elif header is None:
            header = _header(record, f"{path}, line {line}")
        elif len(record) != len(header):
            raise UserError(
                f"{path}, line {line}: {len(record)} fields, and the header has {len(header)}",
                value=[cell[:40] for cell in record[:6]],
                fix="quote values that hold commas, quotes or line breaks",
            )
        else:
            yield dict(zip(header, record, strict=True))


def _header(names: list[str], where: str) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{where}: a field name occurs more than once in the header", value=twice)
    return names


def _iter_parquet(path: Path) -> Iterator[dict[str, Any]]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as table:
        for batch in table.iter_batches(batch_size=PARQUET_ROWS_PER_GROUP):
            yield from batch.to_pylist()


@contextmanager
def _open_text(path: Path) -> Iterator[io.TextIOBase]:
    if not path.is_file():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        close = nearest(path.name, beside)
        raise UserError("no such file", value=str(path), fix=f"did you mean {path.parent / close}?" if close else None)
    # CSV: programs for spreadsheets begin with a byte order mark, and line breaks inside a value stay as they are.
    form = {"encoding": "utf-8-sig", "newline": ""} if _kind(path) == ".csv" else {"encoding": "utf-8"}
    with gzip.open(path, "rt", **form) if path.suffix.lower() == ".gz" else path.open(**form) as stream:  # type: ignore[call-overload]
        yield stream


def iter_table(path: Path, *, fields: Mapping[str, str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table one by one; JSONL, CSV and Parquet are never held whole.

    Args:
        path: A table; its suffix decides the format.
        fields: Renames, wanted name to the file's name, as ``--fields prompt=question`` gives them.

    Raises:
        UserError: The file is missing, its suffix unknown, a line broken or ragged (file and line are named) or a
            mapped field absent.
    """
    kind = _kind(path)
    if kind == ".parquet":
        if not path.is_file():
            raise UserError("no such file", value=str(path))
        rows: Iterator[dict[str, Any]] = _iter_parquet(path)
        yield from (_rename(row, fields, path) for row in rows)
        return
    try:
        with _open_text(path) as stream:
            if kind == ".jsonl":
                rows = _iter_lines(path, stream)
            elif kind == ".csv":
                rows = _iter_csv(path, stream)
            else:
                array = _parse(stream.read(), str(path))
                if not isinstance(array, list):
                    raise UserError(f"{path}: a .json table must be an array of objects", value=type(array).__name__)
                rows = (_object(value, f"{path}, row {number}") for number, value in enumerate(array, 1))
            yield from (_rename(row, fields, path) for row in rows)
    except (gzip.BadGzipFile, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read", why=str(error)) from None


def _rename(row: dict[str, Any], fields: Mapping[str, str] | None, path: Path) -> dict[str, Any]:
    for wanted, given in (fields or {}).items():
        if given not in row:
            raise UserError(f"{path}: no field {given!r} to use as {wanted!r}", alternatives=sorted(row))
        row[wanted] = row.pop(given)
    return row


def read_table(path: Path, *, fields: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Return all rows of a table; see `iter_table`."""
    return list(iter_table(path, fields=fields))


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block ends without an error.

    Raises:
        Stopped: The disk is full; `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb+") as stream:
            os.fsync(stream.fileno())
        part.chmod(0o644)
        part.replace(path)
    except OSError as error:
        if error.errno == 28:  # ENOSPC
            raise Stopped(
                "the disk is full", value=str(path), fix="free some space and run the same command again"
            ) from error
        raise
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def table_writer(path: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yield a function that adds one row to a table, for writing several tables in one pass.

    The table takes its place when the block ends without an error; until then `path` is as it was. JSONL and JSON are
    written as the rows come, Parquet at the end.

    Raises:
        UserError: The suffix is unknown.
        Stopped: The disk is full.
    """
    kind = table_kind(path)
    with atomic_path(path) as part:
        if kind == ".parquet":
            listed: list[dict[str, Any]] = []
            yield lambda row: listed.append(dict(row))
            _write_parquet(part, listed)
            return
        # mtime 0: the same rows give the same bytes.
        raw = part.open("wb")
        stream = gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) if path.suffix.lower() == ".gz" else raw
        with raw, stream, io.TextIOWrapper(stream, encoding="utf-8", newline="\n") as text:
            yield from _add_lines(text) if kind == ".jsonl" else _add_elements(text)


def write_table(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write `rows` to `path` in the format of its suffix, whole or not at all; return how many there were."""
    count = 0
    with table_writer(path) as add:
        for row in rows:
            add(row)
            count += 1
    return count


def _add_lines(text: io.TextIOBase) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    encode = json.JSONEncoder(ensure_ascii=False).encode

    def add(row: Mapping[str, Any]) -> None:
        text.write(encode(row if isinstance(row, dict) else dict(row)) + "\n")

    yield add


def _add_elements(text: io.TextIOBase) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    opened = False

    def add(row: Mapping[str, Any]) -> None:
        nonlocal opened
        text.write((",\n    " if opened else "[\n    ") + _indented(dict(row), "\n    "))
        opened = True

    yield add
    text.write("\n]" if opened else "[]")


_encode = json.JSONEncoder().encode


def _indented(value: Any, line: str) -> str:
    """Return the text of ``json.dumps(value, indent=4)``, in which every line begins with `line`."""
    if isinstance(value, str):
        return _encode(value)
    if isinstance(value, dict) and value and all(type(key) is str for key in value):
        inner = line + "    "
        members = [f"{inner}{_encode(key)}: {_indented(each, inner)}" for key, each in value.items()]
        return f"{{{','.join(members)}{line}}}"
    if isinstance(value, (list, tuple)) and value:
        inner = line + "    "
        return f"[{','.join([inner + _indented(each, inner) for each in value])}{line}]"
    # For anything but text the encoder builds itself anew; a number of every row is worth the short cut.
    return repr(value) if type(value) is int else _encode(value)


def _write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=PARQUET_ROWS_PER_GROUP)


def align(left: Sequence[Row], right: Sequence[Row], *, names: tuple[str, str]) -> list[tuple[Row, Row]]:
    """Pair the rows of two tables by id, in the order of the first.

    Args:
        left: Rows with unique ids.
        right: Rows with the same ids, in any order.
        names: What to call the two tables in a message.

    Raises:
        UserError: An id occurs twice in one table, or in one table only; the ids are named.
    """
    indexed = [_index(rows, name) for rows, name in zip((left, right), names, strict=True)]
    for here, there, name in ((0, 1, names[1]), (1, 0, names[0])):
        missing = [key for key in indexed[here] if key not in indexed[there]]
        if missing:
            shown = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
            raise UserError(
                f"{len(missing)} ids of {names[here]} are missing from {name}: {shown}",
                fix="give files about the same questions, or remove the surplus rows",
            )
    return [(row, indexed[1][identifier(row)]) for row in left]


def _index(rows: Sequence[Row], name: str) -> dict[Identifier, Row]:
    index: dict[Identifier, Row] = {}
    for row in rows:
        key = identifier(row)
        if key in index:
            raise UserError(f"{name}: id {key!r} occurs more than once")
        index[key] = row
    return index
