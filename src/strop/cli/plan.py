"""``strop plan``: what a recipe needs, stage by stage, before anything is spent."""

from __future__ import annotations

from dataclasses import asdict

import typer

from strop.cli.options import RecipeArgument, Sets, Workspace, load, workspace_or_default
from strop.cli.output import AsJson, print_json, print_table


def plan_command(
    recipe: RecipeArgument, set_: Sets = None, workspace: Workspace = None, as_json: AsJson = False
) -> None:
    """Show the calls, tokens and trainings that a recipe needs, and what the workspace holds of them; spends nothing.

    Example:
        strop plan weak_to_strong/cpu --set seeds=[1,2,3]
    """
    from strop.runs.configuration import import_object

    loaded = load(recipe, set_)
    # Every method's package has a module `plan` with a function of that name.
    plan = import_object(f"strop.methods.{loaded.method}.plan:plan")
    planned = plan(loaded.config, workspace=workspace_or_default(workspace))
    if as_json:
        print_json({"recipe": loaded.name, **asdict(planned)})
        return
    print_table(f"{loaded.name}: what it needs", [asdict(stage) for stage in planned.stages])
    for note in planned.notes:
        typer.echo(note)
