"""Runs and scripts for the tests of contests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from strop.runs import Config, Run


class NoSettings(Config):
    """A run without settings of its own."""


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[str], Run]]:
    """Return a maker of runs, by name, in one workspace; they are closed at the end."""
    with ExitStack() as stack:

        def named(name: str) -> Run:
            opening = Run.open(tmp_path / name, config=NoSettings(), origins={}, seed=0, workspace=tmp_path, quiet=True)
            return stack.enter_context(opening)

        yield named


@pytest.fixture
def run(opened: Callable[[str], Run]) -> Run:
    """An open run."""
    return opened("run")


@pytest.fixture
def scripted(tmp_path: Path) -> Callable[..., str]:
    """Return what writes a script of replies, patterns first, and names the model."""

    def write(name: str, rules: Mapping[str, str] | None = None, default: str | None = None) -> str:
        script: dict[str, Any] = {"rules": [{"pattern": key, "reply": reply} for key, reply in (rules or {}).items()]}
        if default is not None:
            script["default"] = default
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(script))
        return f"scripted:{tmp_path}/{name}.yaml"

    return write
