"""``strop safety helplines``: the table of helplines."""

from __future__ import annotations

from typing import Annotated

import typer

from strop.cli.output import AsJson, plain, print_json, print_table


def helplines_command(
    country: Annotated[str | None, typer.Argument(metavar="[COUNTRY]", help="Two letters; all by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the helplines of a country, with where and when each was checked.

    Example:
        strop safety helplines GB
    """
    from strop.safety.helplines import UNVERIFIED, helplines, read_helplines

    table = read_helplines()
    lines = helplines(country)
    if as_json:
        countries = {line.country: list(table.emergency[line.country]) for line in lines}
        print_json({"lines": plain(lines), "emergency": countries, "directories": plain(table.directories)})
        return
    print_table(
        f"helplines, table of {table.written}",
        [
            {
                "country": line.country,
                "name": line.name,
                "number": ", ".join(line.numbers),
                "how": line.how,
                "hours": line.hours,
                "checked": line.checked,
                "source": line.source,
            }
            for line in lines
        ],
    )
    for code in dict.fromkeys(line.country for line in lines):
        typer.echo(f"emergency in {code}: {', '.join(table.emergency[code])}")
    typer.echo("elsewhere: " + ", ".join(directory.url for directory in table.directories))
    unchecked = sum(line.checked == UNVERIFIED for line in lines)
    if unchecked:
        typer.echo(f"WARNING: {unchecked:,} of {len(lines):,} have not been checked: call or look them up before use")
