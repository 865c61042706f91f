"""The published files of the method, and the plain reading of its published procedure."""

from __future__ import annotations

import gzip
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


Published = Callable[[str], list[dict[str, Any]]]


@pytest.fixture(scope="session")
def published(shared_data: Path) -> Published:
    """Read one of the method's published files by its path below ``weak_to_strong``."""

    def read(name: str) -> list[dict[str, Any]]:
        with gzip.open(shared_data / "weak_to_strong" / f"{name}.gz", "rt", encoding="utf-8") as stream:
            return json.load(stream) if name.endswith(".json") else [json.loads(line) for line in stream]

    return read


@pytest.fixture(scope="session")
def procedure() -> ModuleType:
    """The plain reading of the published procedure that the benchmark compares with."""
    spec = importlib.util.spec_from_file_location(
        "published_procedure", REPOSITORY / "benchmarks" / "published_procedure.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
