"""Write and read a report's two files; each is replaced whole or not at all."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from strop.errors import UserError
from strop.records.document import Document
from strop.records.tables import atomic_path

JSON_NAME = "report.json"
HTML_NAME = "report.html"

_DOCUMENT = TypeAdapter(Document)


def write_report(document: Document, folder: Path) -> Path:
    """Write `report.json` and `report.html` into `folder`.

    Returns:
        The path of `report.html`.

    Raises:
        Stopped: The disk is full; earlier files are as they were.
    """
    with atomic_path(folder / JSON_NAME) as part:
        part.write_bytes(_DOCUMENT.dump_json(document, indent=1) + b"\n")
    return _write_html(document, folder)


def read_report(folder: Path) -> Document:
    """Return the document in `folder`'s `report.json`.

    Raises:
        UserError: There is none yet, or it does not follow the schema.
    """
    path = folder / JSON_NAME
    if not path.is_file():
        raise UserError(
            "this run has no report yet", value=str(path), fix="finish it: `strop run` writes the report last"
        )
    try:
        return _DOCUMENT.validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(
            f"{path}: not a report of this version",
            why=f"{where}: {first['msg']} ({error.error_count()} such problems)",
            fix="run the recipe again: finished stages are kept and the report is written anew",
        ) from None


def rebuild_html(folder: Path) -> Path:
    """Write `report.html` again from `report.json`; return its path."""
    return _write_html(read_report(folder), folder)


def _write_html(document: Document, folder: Path) -> Path:
    from strop.report.html import render

    path = folder / HTML_NAME
    with atomic_path(path) as part:
        part.write_text(render(document), encoding="utf-8")
    return path
