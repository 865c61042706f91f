"""Tables of ratings: one row a response, columns that name it, and one column of numbers an attribute."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from strop.errors import UserError, nearest
from strop.records.tables import iter_table

_MISSING = ("", "na", "nan", "null", "none")
ANY_NUMBER = (-math.inf, math.inf)


class Key(NamedTuple):
    """What names a response: its conversation, and which of the responses to it."""

    conversation: str
    item: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RatingTable:
    """Ratings of responses.

    Attributes:
        name: What to call the table: ``human``, or the judge.
        attributes: The columns that are rated.
        ratings: For each response its ratings in that order; NaN where one is missing.
        off_scale: Ratings outside the stated scale, which count as missing.
    """

    name: str
    attributes: tuple[str, ...]
    ratings: Mapping[Key, tuple[float, ...]]
    off_scale: int


def read_ratings(
    path: Path,
    *,
    name: str,
    by: str,
    item: Sequence[str],
    attributes: Sequence[str] = (),
    scale: tuple[float, float] = ANY_NUMBER,
) -> RatingTable:
    """Read a table of ratings: CSV, JSONL, JSON or Parquet.

    Args:
        path: The table.
        name: What to call it.
        by: Column of the conversation.
        item: Further columns that together with `by` name a response; none where a conversation has one response.
        attributes: Columns to read; without any, all others whose first value is a number.
        scale: Smallest and largest valid rating; a rating outside counts as missing.

    Raises:
        UserError: The file cannot be read, lacks a column, names a response twice or holds something else than a
            number where a rating belongs; file and row are named.
    """
    rows = list(iter_table(path))
    if not rows:
        raise UserError("a table without rows", value=str(path))
    chosen = tuple(attributes) or _numeric_columns(rows, {by, *item})
    for column in (by, *item, *chosen):
        if column not in rows[0]:
            close = nearest(column, list(rows[0]))
            raise UserError(
                f"{path}: no column {column!r}",
                fix=f"did you mean {close!r}?" if close else None,
                alternatives=list(rows[0]),
            )
    if not chosen:
        raise UserError(f"{path}: no column holds ratings", alternatives=list(rows[0]))
    ratings: dict[Key, tuple[float, ...]] = {}
    off_scale = 0
    for number, row in enumerate(rows, 1):
        key = Key(_label(row, by, path, number), tuple(_label(row, column, path, number) for column in item))
        if key in ratings:
            raise UserError(
                f"{path}, row {number}: a response is rated twice",
                value=[key.conversation, *key.item],
                fix="name what tells them apart with --item, or average several raters first",
            )
        values = [_rating(row.get(column), f"{path}, row {number}, {column}") for column in chosen]
        outside = [not (math.isnan(value) or scale[0] <= value <= scale[1]) for value in values]
        off_scale += sum(outside)
        ratings[key] = tuple(math.nan if out else value for value, out in zip(values, outside, strict=True))
    return RatingTable(name, chosen, ratings, off_scale)


def _numeric_columns(rows: Sequence[Mapping[str, Any]], keys: set[str]) -> tuple[str, ...]:
    """Return the columns whose first value that is not missing is a number.

    Only the first decides: a column that turns out to hold text further down is an error there, not a column less.
    """
    return tuple(column for column in rows[0] if column not in keys and _starts_with_number(rows, column))


def _starts_with_number(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    given = next((row[column] for row in rows if not _is_missing(row.get(column))), None)
    try:
        return given is not None and math.isfinite(_rating(given, column))
    except UserError:
        return False


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() in _MISSING)


def _label(row: Mapping[str, Any], column: str, path: Path, number: int) -> str:
    value = row.get(column)
    if value is None or value == "":
        raise UserError(f"{path}, row {number}: {column!r} is empty, so the response has no name")
    # A CSV file says 1 where Parquet says 1 or 1.0: the same conversation.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _rating(value: object, where: str) -> float:
    """Return a rating as a number, NaN where it is missing."""
    if _is_missing(value):
        return math.nan
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError
        number = float(value)
    except ValueError:
        raise UserError(f"{where}: not a number", value=value) from None
    if math.isinf(number):
        raise UserError(f"{where}: not a finite number", value=value)
    return number
