"""``strop safety gate``: which replies of a file could never be preferred, and why."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from strop.cli.options import Fields, parse_fields
from strop.cli.output import AsJson, plain, print_json, print_table
from strop.cli.safety_options import SecondOption, Timeout, open_second


def gate_command(
    file: Annotated[Path, typer.Argument(help="A table with prompt and response.")],
    second: SecondOption = None,
    timeout: Timeout = 20.0,
    fields: Fields = None,
    checks: Annotated[bool, typer.Option("--checks", help="With --json: the crisis checks of each reply.")] = False,
    as_json: AsJson = False,
) -> None:
    """Gate each reply of a file: a reply that fails can never be preferred, whatever its ratings.

    Example:
        strop safety gate answers.jsonl --json
    """
    from strop.records.rows import Answer
    from strop.records.tables import iter_table
    from strop.safety import crisis_checks, reply_gate, screen

    opinion = open_second(second)
    rows = []
    for number, row in enumerate(iter_table(file, fields=parse_fields(fields))):
        answer = Answer.from_row({"id": number, **row})
        found = screen(answer.prompt, second=opinion, timeout=timeout)
        gated = plain(reply_gate(answer.prompt, answer.response, screening=found))
        asked = plain(crisis_checks(answer.prompt, answer.response, screening=found)) if checks else None
        rows.append({"id": answer.id, **gated, **({"checks": asked} if checks else {})})
    if as_json:
        print_json(rows)
        return
    passed = sum(row["passed"] for row in rows)
    typer.echo(f"{len(rows):,} replies of {file.name}: {passed:,} pass, {len(rows) - passed:,} fail")
    faults = Counter(fault for row in rows for fault in row["faults"])
    if faults:
        print_table(
            "faults",
            [
                {"fault": fault, "replies": count, "first": next(row["id"] for row in rows if fault in row["faults"])}
                for fault, count in faults.most_common()
            ],
        )
