"""Two streams of rows about the same questions, brought together by id without holding either of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from strop.errors import UserError
from strop.records import Identifier


class Identified(Protocol):
    """A row with an id."""

    @property
    def id(self) -> Identifier:
        """The question's id."""


Left = TypeVar("Left", bound=Identified)
Right = TypeVar("Right", bound=Identified)
Row = TypeVar("Row", bound=Identified)

LARGEST_RUNNING_NUMBER = 2**24
"""Above it an id is taken for a number from elsewhere, for which bits would take more room than a set."""


class _Seen:
    """A set of ids that takes one bit for each of a running number, however many there are."""

    def __init__(self) -> None:
        self._bits = bytearray()
        self._others: set[Identifier] = set()

    def add(self, identifier: Identifier) -> None:
        if not self._running(identifier):
            self._others.add(identifier)
            return
        byte, bit = divmod(int(identifier), 8)
        if byte >= len(self._bits):
            self._bits.extend(bytes(byte + 1 - len(self._bits)))
        self._bits[byte] |= 1 << bit

    def __contains__(self, identifier: Identifier) -> bool:
        if not self._running(identifier):
            return identifier in self._others
        byte, bit = divmod(int(identifier), 8)
        return byte < len(self._bits) and bool(self._bits[byte] >> bit & 1)

    @staticmethod
    def _running(identifier: Identifier) -> bool:
        return isinstance(identifier, int) and 0 <= identifier < LARGEST_RUNNING_NUMBER


class _Waiting(Generic[Row]):
    """The rows of one table that were read ahead of their partners."""

    def __init__(self, rows: Iterable[Row], name: str, paired: _Seen) -> None:
        self._rows = iter(rows)
        self._name = name
        self._paired = paired
        self.rows: dict[Identifier, Row] = {}

    def read(self) -> Row | None:
        row = next(self._rows, None)
        if row is not None and (row.id in self.rows or row.id in self._paired):
            raise UserError(
                f"{self._name}: id {row.id!r} occurs more than once", fix="keep one row per question in each file"
            )
        return row

    def take(self, wanted: Identifier) -> Row | None:
        """Return the row with the id `wanted`, reading on until it comes; None where the table has none."""
        if wanted in self.rows:
            return self.rows.pop(wanted)
        while (row := self.read()) is not None:
            if row.id == wanted:
                return row
            self.rows[row.id] = row
        return None

    def rest(self) -> list[Identifier]:
        while (row := self.read()) is not None:
            self.rows[row.id] = row
        return list(self.rows)


def join_by_id(left: Iterable[Left], right: Iterable[Right], *, names: tuple[str, str]) -> Iterator[tuple[Left, Right]]:
    """Yield the rows of two tables that have the same id, in the order of the first.

    Tables in the same order stream: only the ids that were already seen are held. Otherwise the rows of the second
    that come before their partners are held as well.

    Args:
        left: Rows with unique ids.
        right: Rows with the same ids, in any order.
        names: What to call the tables in a message, usually their files.

    Raises:
        UserError: An id occurs twice in one table, or in one table only (the ids are named). This may come as late
            as after the last pair: publish what you make of the pairs only when the iteration has ended.
    """
    paired = _Seen()
    lefts = _Waiting(left, names[0], paired)
    rights = _Waiting(right, names[1], paired)
    lonely: dict[Identifier, None] = {}
    while (row := lefts.read()) is not None:
        partner = rights.take(row.id)
        if partner is None:
            if row.id in lonely:
                raise UserError(f"{names[0]}: id {row.id!r} occurs more than once")
            lonely[row.id] = None
            continue
        paired.add(row.id)
        yield row, partner
    _refuse(list(lonely), present=names[0], absent=names[1])
    _refuse(rights.rest(), present=names[1], absent=names[0])


def _refuse(ids: list[Identifier], *, present: str, absent: str) -> None:
    if ids:
        shown = ", ".join(map(repr, ids[:10])) + (", ..." if len(ids) > 10 else "")
        raise UserError(
            f"{len(ids)} ids of {present} are missing from {absent}: {shown}",
            why="rows are matched by id; a shorter file is never cut to fit",
            fix="give files about the same questions, or remove the surplus rows",
        )
