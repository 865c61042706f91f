"""What verbs print: a table or a line for people, one JSON document for machines."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Annotated, Any

import typer

Quiet = Annotated[bool, typer.Option("--quiet", help="No progress on standard error.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")]


def print_json(payload: Any) -> None:
    """Print `payload` as one indented JSON document on standard output."""
    typer.echo(json.dumps(payload, indent=2, ensure_ascii=False, default=str))


def plain(value: Any) -> Any:
    """Return dataclasses as mappings; an end that the data do not bound is null, as JSON knows no infinity."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows of one shape as a table; numbers are aligned to the right.

    Args:
        title: The line above the table.
        rows: Mappings with the same keys; the keys become the header.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for column in rows[0] if rows else ():
        numeric = all(isinstance(row[column], (int, float)) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(shown(value)) for value in row.values()))
    Console().print(table)


def shown(value: Any) -> str:
    """Return a value as a person reads it: thousands separated, floats to three digits, a missing one as a dash."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
