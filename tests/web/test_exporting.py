"""Marks become human pairs that the judges' reader reads, and what makes no row is counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.web.served_page import write_pairs

from strop.errors import UserError
from strop.judging.pairs import read_pairs
from strop.records.tables import write_table
from strop.web.annotations import AnnotationFile, annotations_for, open_annotations
from strop.web.blinding import blinded_items
from strop.web.collecting import collect, pairs_behind, require_pairs_behind
from strop.web.exporting import export_each, export_majority
from strop.web.marks import Choice

# Pair 0: both for good. 1: apart. 2: one for bad. 3: tie and cannot. 4: anna alone for good. 5: nobody.
MARKS: dict[str, dict[str, str]] = {
    "anna": {"0": "good", "1": "good", "2": "bad", "3": "tie", "4": "good"},
    "ben": {"0": "good", "1": "bad", "2": "cannot", "3": "cannot"},
}


@pytest.fixture
def marked(tmp_path: Path) -> AnnotationFile:
    source = write_pairs(tmp_path)
    pairs = read_pairs(source)
    file = annotations_for(pairs, source, tmp_path / "marks.sqlite", ties=True)
    file.add_annotators(list(MARKS))
    for name, verdicts in MARKS.items():
        version = 0
        for item in blinded_items(pairs, name):
            said = verdicts.get(item.key)
            if said is None:
                continue
            side: Choice = "left" if item.left.startswith(said) else "right"
            choice = said if said in ("tie", "cannot") else side
            body = {"choice": choice, "seconds": 1.0}
            version = file.add(
                name, version=version, key=item.key, kind="choice", body=body, shown_left=item.shown_left
            )
    return file


def test_majority_rows_are_human_pairs(marked: AnnotationFile, tmp_path: Path) -> None:
    pairs = require_pairs_behind(marked)
    exported = export_majority(collect(marked, pairs), pairs)
    assert exported.left_out == {"no majority": 1, "equally good or cannot judge": 1, "no verdict": 1}
    write_table(tmp_path / "experts.jsonl", exported.rows)
    first, second, third = read_pairs(tmp_path / "experts.jsonl")
    assert (first.id, first.group, first.source, first.label_strength) == (0, "client 0", "annotators", "2 of 2")
    assert first.better.startswith("good 0")
    assert (first.better_origin, first.worse_origin) == ("human: a counsellor", "some model")
    assert second.better.startswith("bad 2")
    assert (second.better_origin, second.label_strength) == ("some model", "1 of 1")
    assert third.id == 4
    assert exported.rows[1]["votes"] == {"better": 1, "worse": 0, "tie": 0, "cannot": 1}


def test_each_annotator_has_rows(marked: AnnotationFile, tmp_path: Path) -> None:
    pairs = require_pairs_behind(marked)
    exported = export_each(collect(marked, pairs), pairs)
    assert exported.left_out == {"equally good": 1, "cannot judge": 2}
    write_table(tmp_path / "each.parquet", exported.rows)
    rows = read_pairs(tmp_path / "each.parquet")
    assert [(row.source, row.better[:3]) for row in rows] == [
        ("anna", "goo"),
        ("ben", "goo"),
        ("anna", "goo"),
        ("ben", "bad"),
        ("anna", "bad"),
        ("anna", "goo"),
    ]
    assert len({row.id for row in rows}) == 6


def test_pairs_that_moved_or_changed(marked: AnnotationFile, tmp_path: Path) -> None:
    source = tmp_path / "pairs.jsonl"
    moved = source.rename(tmp_path / "moved.jsonl")
    assert pairs_behind(marked) is None
    with pytest.raises(UserError, match="no longer where they were"):
        require_pairs_behind(marked)
    assert len(require_pairs_behind(marked, moved)) == 6
    write_pairs(tmp_path, 4)
    with pytest.raises(UserError, match="another set of pairs"):
        pairs_behind(marked)


def test_a_corrected_label_leaves_the_marks_as_they_are(marked: AnnotationFile, tmp_path: Path) -> None:
    """The label is no part of what a file of marks is bound to."""
    source = tmp_path / "pairs.jsonl"
    text = source.read_text(encoding="utf-8")
    source.write_text(
        text.replace('"better":', '"x":').replace('"worse":', '"better":').replace('"x":', '"worse":'), encoding="utf-8"
    )
    marked.close()
    with open_annotations(tmp_path / "marks.sqlite") as file:
        pairs = require_pairs_behind(file)
        collected = collect(file, pairs)
    (zero,) = (pair for pair in collected.pairs if pair.key == "0")
    assert zero.marks["anna"].verdict != zero.label
