"""A comment never reruns a stage; a change of what it does always does."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from strop.runs import code

STAGES = '''"""Stages."""
from __future__ import annotations
from typing import TYPE_CHECKING
from . import near
from strop.records import read_table
import json
if TYPE_CHECKING:
    from laboratory.typing_only import Anything


def stage(stage, x):
    from laboratory.lazily import later
    return near.double(x) + later(x)
'''
FILES = {
    "__init__.py": "",
    "stages.py": STAGES,
    "near.py": "from laboratory import far\ndef double(x):\n    return far.FACTOR * x\n",
    "far.py": "FACTOR = 2\nclass Empty:\n    'Nothing.'\n",
    "lazily.py": "def later(x):\n    return x\n",
    "typing_only.py": "Anything = int\n",
    "unrelated.py": "VALUE = 1\n",
}


@pytest.fixture(name="version")
def laboratory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """A package whose files can be changed; returns the code version of its stage after a change."""
    folder = tmp_path / "laboratory"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    function = importlib.import_module("laboratory.stages").stage

    def version(file: str = "far.py", old: str = "", new: str = "") -> str:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new) if old else text + new)
        for cached in (code._version, code._read, code.find_module):
            cached.cache_clear()
        return code.code_version(function)

    yield version
    for name in [name for name in sys.modules if name.partition(".")[0] == "laboratory"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("stages.py", '"""Stages."""', '"""Other words."""'),
        ("stages.py", "def stage(stage, x):\n", 'def stage(stage, x):\n    """Explain."""\n    # reason\n\n'),
        ("far.py", "FACTOR = 2", "FACTOR = (2)  # two"),
        ("far.py", "'Nothing.'", "pass"),
        ("far.py", "FACTOR = 2\n", 'FACTOR = 2\n"""What it multiplies by."""\n'),
        ("unrelated.py", "1", "2"),
        ("typing_only.py", "int", "str"),
    ],
)
def test_what_does_not_change_the_version(version: Callable[..., str], file: str, old: str, new: str) -> None:
    assert version() == version(file, old, new)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("stages.py", "+ later", "- later"),
        ("near.py", "return far", "return 1 + far"),
        ("far.py", "2", "3"),
        ("far.py", "2", "'2'"),
        ("lazily.py", "return x", "return -x"),
        ("__init__.py", "", "SIDE_EFFECT = 1\n"),
    ],
)
def test_what_changes_the_version(version: Callable[..., str], file: str, old: str, new: str) -> None:
    assert version() != version(file, old, new)


def test_machinery_is_left_out_and_seeds_are_always_in(version: Callable[..., str]) -> None:
    version("stages.py", "import json", "from strop.runs import Stage")
    names: set[str] = set()
    original = code._read

    def reading(path: Path, module: str) -> tuple[str, tuple[str, ...]]:
        names.add(module)
        return original(path, module)

    reading.cache_clear = original.cache_clear  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code, "_read", reading)
        version()
    assert names == {
        *("laboratory", "laboratory.stages", "laboratory.near", "laboratory.far", "laboratory.lazily"),
        *("strop.records", "strop.records.rows", "strop.records.tables", "strop.runs.seeds"),
    }


def test_modules_are_found_without_being_imported() -> None:
    assert code.find_module("strop.runs.store") is not None
    assert code.find_module("strop.runs.store.CallStore") is None
    assert code.find_module("no_such_package.module") is None
    assert code.find_module("sqlite3") is not None
    assert code.find_module("_sqlite3") is None
