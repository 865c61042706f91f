"""Options that several verbs share, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from strop.errors import UserError, nearest

if TYPE_CHECKING:
    from strop.runs.budget import Budget
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
Executor = Annotated[Literal["local", "ray"], typer.Option(help="local: this process; ray: replicas on a Ray cluster.")]
Fields = Annotated[
    list[str] | None,
    typer.Option("--fields", metavar="A=B", help="Use the file's field B as A: prompt=question; repeatable."),
]
BudgetOption = Annotated[
    list[str] | None,
    typer.Option("--budget", metavar="calls=N", help="Stop before calls, tokens or money pass N; repeatable."),
]
BUDGETS = ("calls", "tokens", "money")


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


def parse_budget(given: Sequence[str] | None) -> Budget:
    """Read ``--budget money=5``, given any number of times.

    Raises:
        UserError: One of them has another form, names something else, or limits it to nothing.
    """
    from strop.runs.budget import Budget

    limits: dict[str, int | float] = {}
    for text in given or ():
        name, _, number = text.partition("=")
        if name not in BUDGETS:
            close = nearest(name, BUDGETS)
            hint = f"did you mean {close}={number or 'N'}?" if close else "for example --budget calls=1000"
            raise UserError("no such budget", value=text, fix=hint, alternatives=BUDGETS)
        try:
            limit = float(number.replace("_", ""))
        except ValueError:
            limit = 0.0
        if not 0 < limit < float("inf") or (name != "money" and limit != int(limit)):
            kind = "an amount" if name == "money" else "a whole number"
            raise UserError(f"the budget of {name} must be {kind} above 0", value=text)
        limits[name] = limit if name == "money" else int(limit)
    return Budget(**limits)  # type: ignore[arg-type]  # calls and tokens were made whole above


def parse_fields(given: Sequence[str] | None) -> dict[str, str]:
    """Read ``--fields wanted=yours``, given any number of times.

    Raises:
        UserError: One of them has another form.
    """
    mapping: dict[str, str] = {}
    for text in given or ():
        wanted, equals, yours = text.partition("=")
        if not (wanted and equals and yours):
            raise UserError("--fields maps one field to another", value=text, fix="write --fields prompt=question")
        mapping[wanted] = yours
    return mapping
