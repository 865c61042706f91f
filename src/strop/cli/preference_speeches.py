"""``strop preference speeches``: client messages, cleaned of duplicates and split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strop.cli.options import Fields, parse_fields
from strop.cli.output import AsJson, print_json, print_table


def speeches_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILES...", help="JSONL, JSON, Parquet or CSV, also .gz.")],
    out: Annotated[Path, typer.Option(metavar="F", help="Where speeches go: .jsonl, .json or .parquet, also .gz.")],
    fields: Fields = None,
    min_characters: Annotated[int, typer.Option(min=1, help="Shortest speech.")] = 100,
    max_characters: Annotated[int, typer.Option(min=1, help="Longest speech.")] = 1000,
    near_duplicates: Annotated[
        float, typer.Option(min=0, max=1, help="Similarity from which two speeches are one; 0 drops copies only.")
    ] = 0.7,
    development: Annotated[float, typer.Option(min=0, max=1, help="Share of development speeches.")] = 0.1,
    test: Annotated[float, typer.Option(min=0, max=1, help="Share of test speeches.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Of the splits.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Read client speeches, leave out copies, near-duplicates and what is too short or too long, and split the rest.

    The split is a seeded hash of the text without case, space and punctuation: no copy of a speech can be on two sides.

    Example:
        strop preference speeches posts.csv --fields speech=questionText --out speeches.jsonl
    """
    from strop.methods.preference.files import speech_files, speech_settings

    given = {
        "files": files,
        "fields": parse_fields(fields),
        "min_characters": min_characters,
        "max_characters": max_characters,
        "near_duplicates": near_duplicates or None,
        "development": development,
        "test": test,
    }
    found = speech_files(speech_settings(given), seed=seed, out=out)
    if as_json:
        print_json({"out": str(out), **found.to_row()})
        return
    kept = [{"what": split, "rows": count} for split, count in found.splits.items()]
    lost = [{"what": f"left out: {reason}", "rows": count} for reason, count in found.left_out.items()]
    print_table(f"{len(found.speeches):,} speeches of {found.rows:,} rows", kept + lost)
    typer.echo(f"written: {out}")
