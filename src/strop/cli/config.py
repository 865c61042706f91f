"""``strop config``: the resolved settings of a recipe, with the origin of each value."""

from __future__ import annotations

from typing import Annotated

import typer

from strop.cli.output import AsJson, print_json

Recipe = Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped recipe.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="Change a setting: a.b=value. May be repeated.")]


def config_command(recipe: Recipe, set_: Sets = None, as_json: AsJson = False) -> None:
    """Print the resolved settings of a recipe, each with its explanation and where its value comes from.

    Example:
        strop config weak_to_strong/cpu --set seeds=[1,2]
    """
    from strop.methods import RECIPES
    from strop.runs.annotated import annotated_yaml
    from strop.runs.configuration import load_recipe

    loaded = load_recipe(recipe, sets=set_ or (), recipes=RECIPES)
    if as_json:
        config = loaded.config.model_dump(mode="json")
        print_json({"recipe": loaded.name, "config": config, "origins": dict(loaded.origins)})
    else:
        typer.echo(annotated_yaml(loaded.config, origins=loaded.origins), nl=False)
