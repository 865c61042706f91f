"""``strop selfplay clean``: what a filter leaves of files of sessions, and why it removes the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from strop.cli.output import AsJson, print_json, print_table


def clean_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILES...", help="Session records, or MentalArena's outputs.")],
    rule: Annotated[
        Literal["strict", "published"], typer.Option(help="Our filter, or the one of the released code.")
    ] = "strict",
    as_json: AsJson = False,
) -> None:
    """Count what a filter removes from the outcomes of sessions, rule by rule; nothing is written.

    A session gives a diagnosis, a treatment and a medicine, each judged on its own. `found` counts every rule that is
    broken, `removed` the first one only. Shares of illnesses that name Doctor 1 or 2 have 95 % Wilson intervals.

    Example:
        strop selfplay clean iter1/output_6.jsonl iter4/output_2.jsonl
    """
    from strop.methods.selfplay.cleaning_files import clean_file, rule_table, share_table

    cleaned = [clean_file(path, rule) for path in files]
    if as_json:
        print_json({"rule": rule, "files": [file.to_row() for file in cleaned]})
        return
    print_table(f"Pairs left by the {rule} filter", share_table(cleaned))
    print_table("What each rule finds", rule_table(cleaned))
