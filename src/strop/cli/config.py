"""``strop config``: the resolved settings of a recipe, with the origin of each value."""

from __future__ import annotations

import typer

from strop.cli.options import RecipeArgument, Sets, load
from strop.cli.output import AsJson, print_json


def config_command(recipe: RecipeArgument, set_: Sets = None, as_json: AsJson = False) -> None:
    """Print the resolved settings of a recipe, each with its explanation and where its value comes from.

    Example:
        strop config weak_to_strong/cpu --set seeds=[1,2]
    """
    from strop.runs.annotated import annotated_yaml

    loaded = load(recipe, set_)
    if as_json:
        config = loaded.config.model_dump(mode="json")
        print_json({"recipe": loaded.name, "config": config, "origins": dict(loaded.origins)})
    else:
        typer.echo(annotated_yaml(loaded.config, origins=loaded.origins), nl=False)
