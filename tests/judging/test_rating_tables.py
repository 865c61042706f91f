"""Tables of ratings: every format gives the same table, and whatever cannot be a rating is named by file and row."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from strop.errors import UserError
from strop.judging.rating_tables import Key, RatingTable, read_ratings
from strop.records.tables import write_table

CSV = "conv,model,note,Empathy,Safety\n1,a,fine,4.0,5\n1,b,,3,\n2,a,x,NaN,1\n"
ROWS = [
    {"conv": 1, "model": "a", "note": "fine", "Empathy": 4.0, "Safety": 5},
    {"conv": 1, "model": "b", "note": None, "Empathy": 3.0, "Safety": None},
    {"conv": 2, "model": "a", "note": "x", "Empathy": None, "Safety": 1},
]


def _read(path: Path, text: str | None = None, **options: object) -> RatingTable:
    if text is not None:
        path.write_text(text, encoding="utf-8")
    settings = {"name": "judge", "by": "conv", "item": ["model"], **options}
    return read_ratings(path, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".parquet", ".jsonl.gz"])
def test_every_format_gives_the_same_table(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"ratings{suffix}"
    if suffix == ".csv":
        path.write_text(CSV, encoding="utf-8-sig")
    else:
        write_table(path, ROWS)
    table = _read(path)
    assert table.attributes == ("Empathy", "Safety")
    assert list(table.ratings) == [Key("1", ("a",)), Key("1", ("b",)), Key("2", ("a",))]
    assert table.ratings[Key("1", ("a",))] == (4.0, 5.0)
    assert math.isnan(table.ratings[Key("1", ("b",))][1])
    assert math.isnan(table.ratings[Key("2", ("a",))][0])


def test_chosen_attributes_and_a_scale(tmp_path: Path) -> None:
    table = _read(tmp_path / "r.csv", "conv,model,x,y\n1,a,0,4\n1,b,6,5\n1,c,3,3\n", attributes=["x"], scale=(1, 5))
    assert (table.attributes, table.off_scale) == (("x",), 2)
    assert [math.isnan(row[0]) for row in table.ratings.values()] == [True, True, False]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("conv,model,x\n1,a,5\n1,a,4\n", "row 2: a response is rated twice"),
        ("conv,model,x\n1,a,5\n1,b,high\n", "row 2, x: not a number"),
        ("conv,model,x\n1,a,5\n1,b,inf\n", "row 2, x: not a finite number"),
        ("conv,model,x\n1,a,5\n1,b\n", "line 3: 2 fields, and the header has 3"),
        ("conv,model,x\n1,a,5,9\n", "line 2: 4 fields, and the header has 3"),
        ("conv,model,x\n,a,5\n", "row 1: 'conv' is empty"),
        ("conv,modell,x\n1,a,5\n", "no column 'model'"),
        ("conv,model,x\n1,a,text\n", "no column holds ratings"),
        ("conv,model,x\n", "without rows"),
        ("", "without rows"),
        ('conv,model,x\n1,"a,5\n', "cannot be read"),
    ],
)
def test_whatever_is_wrong_is_one_message(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(UserError, match=match):
        _read(tmp_path / "r.csv", text)


def test_missing_and_undecodable_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        _read(tmp_path / "none.csv")
    (tmp_path / "r.csv").write_bytes(b"conv,model,x\n1,\xff,5\n")
    with pytest.raises(UserError, match="cannot be read"):
        _read(tmp_path / "r.csv")
