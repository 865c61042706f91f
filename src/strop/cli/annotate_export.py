"""``strop annotate export``: experts' marks as human pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strop.cli.output import AsJson, print_json

Annotations = Annotated[Path, typer.Argument(metavar="FILE", help="The .sqlite file of marks.")]
Pairs = Annotated[
    Path | None, typer.Option("--pairs", metavar="PAIRS", help="The pairs, where they are no longer where they were.")
]


def export_command(
    annotations: Annotations,
    out: Annotated[Path, typer.Option(metavar="F", help="Where rows go: .jsonl, .json or .parquet, also .gz.")],
    pairs: Pairs = None,
    each: Annotated[
        bool, typer.Option("--each", help="A row for each annotator's verdict, instead of one for the majority.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write marks as human pairs, better and worse, for `strop judge fit` and `qualify`; say what makes no row and why.

    Example:
        strop annotate export pairs.jsonl.annotations.sqlite --out experts.jsonl
    """
    from strop.records.tables import write_table
    from strop.web.annotations import open_annotations
    from strop.web.collecting import collect, require_pairs_behind
    from strop.web.exporting import export_each, export_majority

    with open_annotations(annotations) as file:
        behind = require_pairs_behind(file, pairs)
        collected = collect(file, behind)
    exported = (export_each if each else export_majority)(collected, behind)
    write_table(out, exported.rows)
    if as_json:
        print_json({"rows": len(exported.rows), "left_out": exported.left_out, "out": str(out)})
        return
    typer.echo(f"written: {len(exported.rows):,} rows, {out}")
    for reason, count in exported.left_out.items():
        typer.echo(f"no row: {count:,} ({reason})")
