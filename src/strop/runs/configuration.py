"""Configurations: a YAML recipe, changed by ``--set``, checked as a whole, with the origin of every value.

Every problem of a recipe is reported at once, an unknown key together with the nearest valid one. Keys of services come
from the environment: a value that looks like one is refused, so that it reaches no file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module, resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from strop.errors import UserError, nearest
from strop.runs.problems import describe_problems
from strop.runs.yaml_files import Located, parse_value, read_yaml

DEFAULT, FLAG = "default", "--set"

Recipes = Mapping[str, tuple[str, str]]
"""Method name to the import paths (``module:name``) of its configuration class and its recipe function."""

# Shapes of keys as services hand them out. Prose and model names do not look like this.
_SECRET_VALUE = re.compile(
    r"\b(sk-[A-Za-z0-9_-]{8,}|hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|AKIA[A-Z0-9]{12,}|AIza[\w-]{20,}"
    r"|xox[abp]-[\w-]{8,})|\bBearer\s+\S{8,}"
)
_SECRET_NAME = re.compile(r"(^|_)(api_?key|secret|password|access_token|auth_token)$", re.IGNORECASE)


class Config(BaseModel):
    """Base of all configurations: frozen, no unknown keys, the docstring under each field is its description.

    A field that cannot change an artifact (devices, processes, progress) opts out of stage fingerprints with
    ``Field(json_schema_extra={"fingerprint": False})``.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True, protected_namespaces=()
    )


@dataclass(frozen=True, slots=True)
class Loaded:
    """A recipe, read and checked.

    Attributes:
        config: The configuration of the method.
        origins: Where each value comes from, by dotted path: ``default``, ``--set`` or ``FILE:LINE``.
        method: The name under ``recipe:``.
        name: What to call the recipe: ``weak_to_strong/cpu`` or the file's stem.
        function: The import path of the recipe function.
    """

    config: BaseModel
    origins: Mapping[str, str]
    method: str
    name: str
    function: str


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes in the package by name, such as ``weak_to_strong/cpu``."""
    folder = Path(str(resources.files("strop"))) / "recipes"
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def find_recipe(recipe: str | Path) -> tuple[str, Path]:
    """Return the name and the file of a recipe, given as a YAML path or by the name of a shipped one.

    Raises:
        UserError: There is none; names the shipped recipes.
    """
    shipped = shipped_recipes()
    if str(recipe) in shipped:
        return str(recipe), shipped[str(recipe)]
    path = Path(recipe)
    if path.is_file():
        return path.stem, path
    close = nearest(str(recipe), list(shipped))
    raise UserError(
        "there is no such recipe",
        value=str(recipe),
        why="it is neither a YAML file nor the name of a shipped recipe",
        fix=f"did you mean {close!r}?" if close else None,
        alternatives=list(shipped),
    )


def load_recipe(recipe: str | Path, *, sets: Sequence[str] = (), recipes: Recipes) -> Loaded:
    """Read a recipe, apply changes, and validate it into the configuration of its method.

    Args:
        recipe: A YAML path, or the name of a shipped recipe.
        sets: Changes as ``a.b=value``; the value is YAML, an index picks from a list (``models.0.revision=main``).
        recipes: The methods there are.

    Raises:
        UserError: The recipe does not exist, or has problems: all of them are named.
    """
    name, path = find_recipe(recipe)
    content = read_yaml(path)
    for change in sets:
        _apply(content, change)
    _refuse_secrets(content, path)
    method = content.values.get("recipe")
    if not isinstance(method, str) or method not in recipes:
        close = nearest(str(method), list(recipes))
        raise UserError(
            f"{path}: the key 'recipe' must name a method",
            value=method,
            fix=f"did you mean {close!r}?" if close else None,
            alternatives=list(recipes),
        )
    config_path, function = recipes[method]
    config = validate(import_object(config_path), content, where=str(path))
    return Loaded(config, origins_of(config, content.origins), method, name, function)


def import_object(path: str) -> Any:
    """Return what an import path ``module:name`` leads to."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def validate(config_class: type[BaseModel], content: Located, *, where: str) -> BaseModel:
    """Validate settings into a configuration.

    Raises:
        UserError: Names every problem, with the line it is on.
    """
    try:
        return config_class.model_validate(content.values)
    except ValidationError as error:
        problems = describe_problems(error, config_class, content.values, content.origins)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = [f"{where}: {count} in the settings", *(f"  {problem}" for problem in problems)]
        raise UserError("\n".join(lines)) from None


def _apply(content: Located, change: str) -> None:
    path, equals, text = change.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise UserError("a change must look like a.b=value", value=change, fix="for example --set training.epochs=2")
    value = parse_value(text, where=f"--set {path}")
    holder: Any = content.values
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        here = ".".join(keys[: depth + 1])
        if isinstance(holder, dict):
            if last:
                holder[key] = value
            holder = holder.setdefault(key, {})
        elif isinstance(holder, list):
            if not key.isdigit() or int(key) >= len(holder):
                raise UserError(f"--set {here}: the list has the indexes 0 to {len(holder) - 1}", value=key)
            if last:
                holder[int(key)] = value
            holder = holder[int(key)]
        else:
            above = ".".join(keys[:depth])
            raise UserError(f"--set {here}: {above!r} is a single value, nothing can be set inside it", value=holder)
    below = f"{path}."
    for leaf in [leaf for leaf in content.origins if leaf == path or leaf.startswith(below)]:
        del content.origins[leaf]
    content.origins.update(dict.fromkeys(leaves(value, path), FLAG))


def leaves(value: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted paths of the leaves of nested mappings and lists; an empty one is a leaf itself."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    pairs = [(f"{prefix}.{key}" if prefix else str(key), item) for key, item in items]
    if not pairs:
        yield prefix
    for path, item in pairs:
        yield from leaves(item, path)


def origins_of(config: BaseModel, given: Mapping[str, str]) -> dict[str, str]:
    """Return where each value of a configuration comes from.

    Args:
        config: The validated configuration.
        given: Where each given leaf comes from. A leaf that was read from a single text (a model, for example) has the
            origin of that text.
    """
    origins = {}
    for leaf in leaves(config.model_dump(mode="json")):
        parts = leaf.split(".")
        above = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
        origins[leaf] = next((given[path] for path in above if path in given), DEFAULT)
    return origins


def _refuse_secrets(content: Located, path: Path) -> None:
    for leaf in leaves(content.values):
        value: Any = content.values
        for key in leaf.split(".") if leaf else []:
            value = value[int(key)] if isinstance(value, list) else value[key]
        named = _SECRET_NAME.search(leaf.rpartition(".")[2]) and value not in (None, "")
        if named or (isinstance(value, str) and _SECRET_VALUE.search(value)):
            # The value itself must not reach the terminal, nor a log of it.
            raise UserError(
                f"{content.origins.get(leaf, path)}: the value of {leaf!r} looks like a key or a password",
                why="a recipe is copied into run folders and reports",
                fix="put it into the environment variable of its service, such as OPENAI_API_KEY, and remove it here",
            )


def json_schema(config_class: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a configuration, for editors that complete and check YAML."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **config_class.model_json_schema()}
