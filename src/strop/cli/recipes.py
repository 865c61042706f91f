"""``strop recipes``: the shipped recipes, and a copy of one to edit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strop.cli.output import AsJson, print_json, print_table
from strop.errors import UserError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def overview(context: typer.Context, as_json: AsJson = False) -> None:
    """List the shipped recipes, or copy one to edit.

    Example:
        strop recipes
        strop recipes copy weak_to_strong/cpu mine.yaml
    """
    if context.invoked_subcommand is None:
        _list(as_json)


@app.command("list")
def list_command(as_json: AsJson = False) -> None:
    """List the shipped recipes.

    Example:
        strop recipes list
    """
    _list(as_json)


@app.command()
def copy(
    name: Annotated[str, typer.Argument(help="The name of a shipped recipe.")],
    to: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Where to; NAME.yaml here by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Copy a shipped recipe to a file of yours.

    Example:
        strop recipes copy weak_to_strong/cpu mine.yaml
    """
    from strop.records.tables import atomic_path
    from strop.runs.configuration import find_recipe

    known, source = find_recipe(name)
    target = to or Path(f"{known.replace('/', '-')}.yaml")
    if target.exists():
        raise UserError("the file exists already", value=str(target), fix="give another name, or remove it first")
    with atomic_path(target) as part:
        part.write_bytes(source.read_bytes())
    if as_json:
        print_json({"recipe": known, "file": str(target)})
    else:
        typer.echo(f"{target}: run it with `strop run {target}`")


def _list(as_json: bool) -> None:
    from strop.runs.configuration import shipped_recipes

    rows = [{"recipe": name, "what it is": _first_comment(path)} for name, path in shipped_recipes().items()]
    if as_json:
        print_json([{"recipe": row["recipe"], "summary": row["what it is"]} for row in rows])
    else:
        print_table("Shipped recipes", rows)


def _first_comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ") if first.startswith("#") else ""
