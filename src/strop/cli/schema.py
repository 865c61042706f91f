"""``strop schema``: the JSON schema of a method's settings, for editors."""

from __future__ import annotations

from typing import Annotated

import typer

from strop.cli.output import print_json
from strop.errors import UserError, nearest


def schema_command(method: Annotated[str, typer.Argument(help="A method, such as weak_to_strong.")]) -> None:
    """Print the JSON schema of a method's recipes; editors use it to complete and to check YAML.

    Example:
        strop schema weak_to_strong > weak_to_strong.schema.json
    """
    from strop.methods import RECIPES
    from strop.runs.configuration import import_object, json_schema

    if method not in RECIPES:
        close = nearest(method, list(RECIPES))
        fix = f"did you mean {close!r}?" if close else None
        raise UserError("there is no such method", value=method, fix=fix, alternatives=list(RECIPES))
    print_json(json_schema(import_object(RECIPES[method][0])))
