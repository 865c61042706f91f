"""CSV is read as the csv module of Python writes it: every value is text, a ragged row is an error."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.records.tables import iter_table, read_table, write_table

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
WIDE = st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=6)


def _written(rows: list[tuple[str, ...]], ending: str) -> str:
    stream = io.StringIO(newline="")
    # Everything quoted: with "\n" as its line terminator, Python 3.11 leaves a lone "\r" bare.
    writer = csv.writer(stream, lineterminator=ending, quoting=csv.QUOTE_ALL)
    writer.writerows([("id", "speech", "topic"), *rows])
    return stream.getvalue()


@given(WIDE, st.sampled_from(["\r\n", "\n"]), st.booleans())
def test_what_the_standard_library_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]], ending: str, marked: bool
) -> None:
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    text = _written(rows, ending)
    path.write_bytes(text.encode("utf-8-sig" if marked else "utf-8"))
    assert [tuple(row.values()) for row in read_table(path)] == rows


def test_values_are_text_and_an_empty_cell_is_empty_text(tmp_path: Path) -> None:
    """`007`, `1.0`, `NULL` and nothing at all stay what they are; a quoted line break stays one too."""
    path = tmp_path / "rows.csv"
    path.write_bytes(b'id,speech\r\n007,"one\r\ntwo, ""three"""\r\n1.0,\r\nNULL,x\r\n')
    assert read_table(path) == [
        {"id": "007", "speech": 'one\r\ntwo, "three"'},
        {"id": "1.0", "speech": ""},
        {"id": "NULL", "speech": "x"},
    ]


def test_gzipped_and_renamed(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbfquestionID,text\n1,a\n"))
    assert read_table(path, fields={"id": "questionID"}) == [{"text": "a", "id": "1"}]
    with pytest.raises(UserError, match="no field 'speech'"):
        read_table(path, fields={"id": "speech"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'id,speech\n1,"two\nlines"\n2,a,b\n', r"line 4: 3 fields, and the header has 2"),
        (b"id,speech\n1\n", r"line 2: 1 fields, and the header has 2"),
        (b'id,speech\n1,"never closed\n', "cannot be read"),
        (b'id,speech\n1,"a"b\n', "cannot be read"),
        (b"id,speech\n1,\xff\n", "cannot be read"),
        (b"id,speech\n\n1,a\n", r"line 2: an empty line inside the table"),
        (b"id,id\n1,a\n", "more than once in the header"),
    ],
)
def test_a_broken_file_is_named_with_its_line(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_table(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"id,speech\n", b"id,speech\r\n\r\n\r\n"])
def test_a_table_without_rows(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    assert read_table(path) == []


def test_rows_before_a_broken_one_are_given(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"id\n1\n2\n3,4\n")
    rows = iter_table(path)
    assert [next(rows), next(rows)] == [{"id": "1"}, {"id": "2"}]
    with pytest.raises(UserError, match="line 4"):
        next(rows)


def test_missing_files_and_writing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_table(tmp_path / "rows.csv")
    with pytest.raises(UserError, match="CSV is read, not written"):
        write_table(tmp_path / "rows.csv", [{"id": 1}])
    assert list(tmp_path.iterdir()) == []
