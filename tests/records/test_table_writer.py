"""Tables are written row by row, with the bytes that writing them whole would give, and appear only when complete."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.records.tables import read_table, table_writer, write_table

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner), max_leaves=8
)
ROWS = st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=4), max_size=4)


@given(ROWS)
def test_arrays_have_the_bytes_of_json_dumps(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("arrays") / "rows.json"
    assert write_table(path, rows) == len(rows)
    assert path.read_text(encoding="utf-8") == json.dumps(rows, indent=4)


@given(ROWS)
def test_lines_have_the_bytes_of_json_dumps(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("lines") / "rows.jsonl"
    write_table(path, rows)
    assert path.read_bytes().decode() == "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet", ".jsonl.gz", ".json.gz"])
def test_several_tables_in_one_pass(suffix: str, tmp_path: Path) -> None:
    even, odd = tmp_path / f"even{suffix}", tmp_path / f"odd{suffix}"
    with table_writer(even) as add_even, table_writer(odd) as add_odd:
        for number in range(5):
            (add_odd if number % 2 else add_even)({"number": number})
        assert not even.exists()
    assert [row["number"] for row in read_table(even)] == [0, 2, 4]
    assert [row["number"] for row in read_table(odd)] == [1, 3]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet", ".json.gz"])
def test_an_error_leaves_the_table_as_it_was(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows{suffix}"
    write_table(path, [{"number": 1}])
    before = path.read_bytes()

    def rows() -> Any:
        yield {"number": 2}
        raise UserError("stop here")

    with pytest.raises(UserError, match="stop here"):
        write_table(path, rows())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
