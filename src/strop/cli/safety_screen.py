"""``strop safety screen``: the level of risk of each prompt of a file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from strop.cli.options import Fields, parse_fields
from strop.cli.output import AsJson, plain, print_json, print_table
from strop.cli.safety_options import SecondOption, Timeout, open_second


def screen_command(
    file: Annotated[Path, typer.Argument(help="A table with prompt: text, or a list of messages.")],
    second: SecondOption = None,
    timeout: Timeout = 20.0,
    fields: Fields = None,
    as_json: AsJson = False,
) -> None:
    """Screen each prompt of a file for risk: level, kinds, evidence, and whether the screen is unsure.

    The screen reads wording. It misses risk that it has no words for: a level of none is no all-clear.

    Example:
        strop safety screen speeches.jsonl --json
    """
    from strop.records.rows import prompt_from_json
    from strop.records.tables import iter_table
    from strop.safety import Level, screen

    opinion = open_second(second)
    rows = []
    for number, row in enumerate(iter_table(file, fields=parse_fields(fields))):
        found = screen(prompt_from_json(row.get("prompt")), second=opinion, timeout=timeout)
        rows.append({"id": row.get("id", number), **plain(found)})
    if as_json:
        print_json(rows)
        return
    counts = Counter(row["level"] for row in rows)
    print_table(
        f"{len(rows):,} prompts of {file.name}",
        [{"level": f"{int(level)} {level.name.lower()}", "prompts": counts[level]} for level in Level],
    )
    grave = [row for row in rows if row["level"] >= Level.PLAN]
    if grave:
        shown = [
            {"id": row["id"], "level": int(row["level"]), "unsure": row["unsure"], "evidence": row["evidence"][:1]}
            for row in grave
        ]
        print_table("at the two highest levels", shown)
