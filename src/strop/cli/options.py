"""Options that several verbs share, and what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from strop.runs.configuration import Loaded

RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A YAML file, or the name of a shipped recipe; see `strop recipes`.")
]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Change a setting; repeatable.")]
Workspace = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The folder of runs and calls; $STROP_WORKSPACE or ./runs by default."),
]
Device = Annotated[
    str | None, typer.Option(metavar="D", help="Where local models run: cpu, cuda, cuda:1; the recipe's by default.")
]
Dtype = Annotated[str | None, typer.Option(metavar="T", help="float32, bfloat16 or auto; the recipe's by default.")]


def load(recipe: str, sets: list[str] | None, *, device: str | None = None, dtype: str | None = None) -> Loaded:
    """Read a recipe with the changes of the command line; ``--device`` and ``--dtype`` set ``machine``."""
    from strop.methods import RECIPES
    from strop.runs.configuration import load_recipe

    changes = [*(sets or ())]
    changes += [f"machine.{key}={value}" for key, value in (("device", device), ("dtype", dtype)) if value is not None]
    return load_recipe(recipe, sets=changes, recipes=RECIPES)


def workspace_or_default(workspace: Path | None) -> Path:
    """Return the workspace that was given, or the default one."""
    from strop.runs.workspace import default_workspace

    return workspace or default_workspace()
