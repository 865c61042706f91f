"""``strop plan``: what a recipe needs, stage by stage, before anything is spent."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from strop.cli.options import RecipeArgument, Sets, Workspace, load, workspace_or_default
from strop.cli.output import AsJson, print_json, print_table


def plan_command(
    recipe: RecipeArgument,
    set_: Sets = None,
    pilot: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Ask N items, keep the answers, and forecast tokens, money and time."),
    ] = None,
    workspace: Workspace = None,
    as_json: AsJson = False,
) -> None:
    """Show the calls, tokens and trainings that a recipe needs, and what the workspace holds of them.

    Without --pilot nothing is spent, and what depends on answers is told in bounds.

    Example:
        strop plan weak_to_strong/cpu --set seeds=[1,2,3] --pilot 20
    """
    from strop.runs.configuration import import_object

    loaded = load(recipe, set_)
    # Every method's package has the modules `plan` and `pilot` with these functions.
    plan = import_object(f"strop.methods.{loaded.method}.plan:plan")
    place = workspace_or_default(workspace)
    planned = plan(loaded.config, workspace=place)
    if pilot is not None:
        with_pilot = import_object(f"strop.methods.{loaded.method}.pilot:with_pilot")
        planned = with_pilot(planned, loaded.config, workspace=place, pilot=pilot, quiet=as_json)
    if as_json:
        print_json({"recipe": loaded.name, **asdict(planned)})
        return
    print_table(f"{loaded.name}: what it needs", [_line(asdict(stage)) for stage in planned.stages])
    for note in planned.notes:
        typer.echo(note)


def _line(stage: dict[str, Any]) -> dict[str, Any]:
    """Return a stage as a line: its model tells its base, and money is a range."""
    money = stage.pop("money")
    stage.pop("base", None)
    return {**stage, "money": None if money is None else f"{money['low']:,.4g} to {money['high']:,.4g}"}
