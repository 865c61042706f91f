"""The file of annotations: bound to its pairs, only ever added to, safe against a second writer."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tests.web.served_page import write_pairs

from strop.errors import UserError
from strop.judging.pairs import read_pairs
from strop.judging.rubric import load_rubric
from strop.web.annotations import AnnotationFile, Outdated, annotations_for, open_annotations
from strop.web.marks import fold


def _file(folder: Path, **settings: bool | str) -> AnnotationFile:
    source = folder / "pairs.jsonl"
    if not source.exists():
        write_pairs(folder)
    return annotations_for(read_pairs(source), source, folder / "marks.sqlite", **settings)  # type: ignore[arg-type]


def _choose(file: AnnotationFile, version: int, *, key: str = "1", choice: str = "left") -> int:
    return file.add("anna", version=version, key=key, kind="choice", body={"choice": choice}, shown_left="first")


def test_marks_and_tokens_are_there_after_reopening(tmp_path: Path) -> None:
    with _file(tmp_path) as file:
        file.add_annotators(["anna", "ben"])
        tokens = file.tokens()
        _choose(file, 0)
    with _file(tmp_path) as file:
        file.add_annotators(["ben", "carla"])
        assert {name: file.tokens()[name] for name in tokens} == tokens
        assert sorted(file.tokens()) == ["anna", "ben", "carla"]
        assert file.annotator_of(tokens["ben"]) == "ben"
        assert file.annotator_of("guess") is None
        assert fold(file.events("anna"))["1"].verdict == "first"
        assert file.groups()["0"] == "client 0"
    assert (tmp_path / "marks.sqlite").stat().st_mode & 0o777 == 0o600


def test_a_write_on_an_old_version_changes_nothing(tmp_path: Path) -> None:
    with _file(tmp_path) as one, _file(tmp_path) as other:
        version = _choose(one, 0)
        with pytest.raises(Outdated):
            _choose(other, 0, choice="right")
        with pytest.raises(Outdated):
            other.undo("anna", version=0)
        assert other.version("anna") == version
        assert [event.body["choice"] for event in one.events()] == ["left"]
        _choose(other, version, choice="right")


def test_undo_deletes_nothing(tmp_path: Path) -> None:
    with _file(tmp_path) as file:
        version = _choose(file, 0)
        undone = file.undo("anna", version=version)
        assert undone is not None
        assert undone.seq == version
        assert file.undo("anna", version=file.version("anna")) is None
        assert [event.kind for event in file.events()] == ["choice", "undo"]


def test_another_set_of_pairs_is_refused_and_both_are_named(tmp_path: Path) -> None:
    with _file(tmp_path) as file:
        _choose(file, 0)
    other = write_pairs(tmp_path, 5, name="other.jsonl")
    with pytest.raises(UserError, match="another set of pairs") as refused:
        annotations_for(read_pairs(other), other, tmp_path / "marks.sqlite")
    assert "other.jsonl (5 pairs" in str(refused.value)
    assert "pairs.jsonl (6 pairs" in str(refused.value)
    with _file(tmp_path) as file:
        assert len(file.events()) == 1


def test_settings_cannot_change_halfway(tmp_path: Path) -> None:
    with _file(tmp_path, ties=True, question="Which one?"):
        pass
    with _file(tmp_path) as file:
        assert file.settings.ties
        assert file.settings.question == "Which one?"
    with pytest.raises(UserError, match="begun with another --ties"):
        _file(tmp_path, ties=False)
    with pytest.raises(UserError, match="begun with another --rubric"):
        annotations_for(
            read_pairs(tmp_path / "pairs.jsonl"),
            tmp_path / "pairs.jsonl",
            tmp_path / "marks.sqlite",
            rubric=load_rubric("principles-v1"),
        )


@pytest.mark.parametrize("name", ["", "a b", "../x", "<b>", "x" * 41])
def test_names_that_cannot_be_used(tmp_path: Path, name: str) -> None:
    with _file(tmp_path) as file, pytest.raises(UserError, match="name cannot be used"):
        file.add_annotators([name])


def test_a_name_twice(tmp_path: Path) -> None:
    with _file(tmp_path) as file, pytest.raises(UserError, match="given twice"):
        file.add_annotators(["anna", "anna"])


def test_foreign_files_are_refused_and_stay_as_they_are(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path)
    before = pairs.read_bytes()
    with pytest.raises(UserError, match="no file of annotations"):
        annotations_for(read_pairs(pairs), pairs, pairs)
    assert pairs.read_bytes() == before
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE mine (x)")
    before = foreign.read_bytes()
    with pytest.raises(UserError, match="no file of annotations"):
        open_annotations(foreign)
    assert foreign.read_bytes() == before
    with pytest.raises(UserError, match="no such file"):
        open_annotations(tmp_path / "nowhere.sqlite")
    assert not (tmp_path / "nowhere.sqlite").exists()
    (tmp_path / "empty.sqlite").touch()
    with pytest.raises(UserError, match="no file of annotations"):
        open_annotations(tmp_path / "empty.sqlite")


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    with _file(tmp_path):
        pass
    with sqlite3.connect(tmp_path / "marks.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(UserError, match="schema 99"):
        open_annotations(tmp_path / "marks.sqlite")


KILLED = """
import os, signal, sys
from pathlib import Path
from strop.web.annotations import open_annotations

file = open_annotations(Path(sys.argv[1]))
version = 0
for number in range(5):
    body = {"choice": "left"}
    version = file.add("anna", version=version, key=str(number), kind="choice", body=body, shown_left="first")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_server_loses_nothing_that_it_said_it_saved(tmp_path: Path) -> None:
    _file(tmp_path).close()
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "marks.sqlite")], check=False)
    assert done.returncode == -9
    with open_annotations(tmp_path / "marks.sqlite") as file:
        assert len(fold(file.events("anna"))) == 5


def test_surrogates_of_hostile_files_are_kept(tmp_path: Path) -> None:
    r"""A lone surrogate, legal as \ud800 in JSON, has no UTF-8: ids, groups and notes must survive it."""
    source = tmp_path / "pairs.jsonl"
    source.write_text('{"id": "\\ud800", "group": "\\ud800", "prompt": "p\\ud800", "better": "a", "worse": "b"}\n')
    with annotations_for(read_pairs(source), source, tmp_path / "marks.sqlite") as file:
        (key,) = file.groups()
        assert file.groups()[key] == "\ud800"
        file.add("anna", version=0, key=key, kind="note", body={"text": "\ud800"}, shown_left="first")
        assert fold(file.events("anna"))[key].note == "\ud800"
