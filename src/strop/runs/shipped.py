"""Data files that strop brings, as a recipe names them: ``shipped:PATH``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

DATA = Path(__file__).resolve().parents[1] / "data"
SHIPPED = "shipped:"


def shipped_path(value: Any) -> Any:
    """Return where a file lies that strop brings; every other value as it is."""
    if isinstance(value, str) and value.startswith(SHIPPED):
        return DATA / value.removeprefix(SHIPPED)
    return value


DataPath = Annotated[Path, BeforeValidator(shipped_path)]
"""A path in a recipe; ``shipped:PATH`` is a file that strop brings."""
