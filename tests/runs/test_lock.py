"""One writer at a time; what a crash leaves behind does not lock."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from strop.errors import UserError
from strop.runs.lock import hold_lock


def test_the_second_writer_is_refused_until_the_first_has_gone(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lock"
    with hold_lock(path), pytest.raises(UserError, match=f"pid {os.getpid()} on "), hold_lock(path):
        pass
    with hold_lock(path):
        pass


def test_a_file_left_by_a_crash_does_not_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text('{"pid": 1, "host": "elsewhere", "command": "gone", "since": "long ago"}')
    with hold_lock(path):
        assert str(os.getpid()) in path.read_text()


def test_a_holder_that_has_not_written_its_name_yet(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold_lock(path):
        path.write_text("")
        with pytest.raises(UserError, match="a process that has just started"), hold_lock(path):
            pass
