"""What is wrong with a recipe, in words: one line for each problem, with its place and the nearest valid key."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from strop.errors import nearest


def describe_problems(
    error: ValidationError, config_class: type[BaseModel], values: Mapping[str, Any], origins: Mapping[str, str]
) -> list[str]:
    """Return the problems in a validation error.

    Args:
        error: What pydantic found.
        config_class: The class that was validated.
        values: The settings as given.
        origins: Where each given leaf stands, by dotted path.
    """
    return [_problem(dict(item), config_class, values, origins) for item in error.errors(include_url=False)]


def _problem(
    item: Mapping[str, Any], config_class: type[BaseModel], values: Mapping[str, Any], origins: Mapping[str, str]
) -> str:
    path = [str(part) for part in _parts_in_file(item["loc"], values)]
    dotted = ".".join(path)
    place = _place(dotted, origins)
    if item["type"] == "extra_forbidden":
        return f"{place}{dotted}: unknown key{_suggestion(path, config_class)}"
    if item["type"] == "missing":
        return f"{place}{dotted}: missing, and it has no default"
    message = str(item["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    got = "" if isinstance(item.get("input"), (dict, BaseModel)) else f": got {item.get('input')!r}"
    # An error of the whole configuration has no place of its own.
    return f"{place}{dotted}: {message}{got}" if dotted else message


def _place(dotted: str, origins: Mapping[str, str]) -> str:
    found = next((origins[leaf] for leaf in origins if leaf == dotted or leaf.startswith(dotted + ".")), None)
    return f"{found}: " if found and dotted else ""


def _suggestion(path: list[str], config_class: type[BaseModel]) -> str:
    siblings = [name for model in models_at(config_class, path[:-1]) for name in model.model_fields]
    close = nearest(path[-1], siblings)
    if close:
        return f", did you mean {'.'.join([*path[:-1], close])!r}?"
    elsewhere = [dotted for dotted in dotted_names(config_class) if dotted.rpartition(".")[2] == path[-1]]
    if elsewhere:
        return f", did you mean {elsewhere[0]!r}?"
    return f"; known here: {', '.join(siblings)}" if siblings else ""


def models_at(config_class: type[BaseModel], path: list[str]) -> list[type[BaseModel]]:
    """Return the model classes that may stand at a dotted path."""
    found = [config_class]
    for part in path:
        fields = [model.model_fields[part].annotation for model in found if part in model.model_fields]
        # A part that is no field is an index of a list or a key of a mapping, whose members are known already.
        found = [model for annotation in fields for model in _models_in(annotation)] if fields else found
    return found


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is Annotated:
        yield from _models_in(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType, list, tuple, dict):
        for argument in get_args(annotation):
            yield from _models_in(argument)


def dotted_names(config_class: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of every field, nested ones included."""
    for name, field in config_class.model_fields.items():
        yield f"{prefix}{name}"
        for model in _models_in(field.annotation):
            yield from dotted_names(model, f"{prefix}{name}.")


def _parts_in_file(location: tuple[int | str, ...], values: Any) -> Iterator[int | str]:
    """Yield the parts of a pydantic location that stand in the file: without the tags of unions and validators."""
    for depth, part in enumerate(location):
        known = (isinstance(values, dict) and part in values) or (isinstance(values, list) and isinstance(part, int))
        # The last part may be a key that is missing; anything else that the file does not hold is a tag.
        if known or depth == len(location) - 1:
            yield part
        if known:
            values = values[part]
