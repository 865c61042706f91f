"""Makes what the tests of the annotation page share importable by its full name, and starts the real server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.web.served_page import ServedPage, serve


@pytest.fixture
def page(tmp_path: Path) -> Iterator[ServedPage]:
    """Six pairs behind a real server on a free port of this machine, for the annotators anna and ben."""
    with serve(tmp_path) as served:
        yield served
