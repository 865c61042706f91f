"""``strop store``: the size of the store of model calls, and pruning."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from strop.cli.options import Workspace, workspace_or_default
from strop.cli.output import AsJson, print_json, print_table
from strop.errors import UserError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


def _existing(workspace: Path | None) -> Path:
    from strop.runs.workspace import store_path

    path = store_path(workspace_or_default(workspace))
    if not path.is_file():
        raise UserError("there is no call store yet", value=str(path), fix="give another workspace with --workspace")
    return path


@app.command()
def size(workspace: Workspace = None, as_json: AsJson = False) -> None:
    """Show how many calls, failures, tokens and bytes the store holds, and how many answers no run refers to.

    Example:
        strop store size
    """
    from strop.runs.store import CallStore

    path = _existing(workspace)
    with CallStore(path) as store:
        sizes = asdict(store.sizes())
    if as_json:
        print_json({"store": str(path), **sizes})
    else:
        print_table(str(path), [sizes])


@app.command()
def prune(
    workspace: Workspace = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove the answers that no existing run refers to. They were paid for: asking them again costs again.

    Example:
        strop store prune --yes
    """
    from strop.runs.store import CallStore

    with CallStore(_existing(workspace)) as store:
        unused = store.sizes().unused
        if unused and not yes and not typer.confirm(f"Remove {unused:,} answers that no existing run refers to?"):
            raise typer.Exit(0)
        removed = store.prune()
        left = asdict(store.sizes())
    if as_json:
        print_json({"removed": removed, **left})
    else:
        typer.echo(f"removed {removed:,} answers; {left['calls']:,} are left in {left['bytes']:,} bytes")
