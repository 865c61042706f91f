"""Stage fingerprints: what a stage's artifact depends on, as one hash of its code version and its arguments.

A comment, a docstring or a moved file never changes a fingerprint; an algorithm, a setting or an input does.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from strop.errors import UserError
from strop.runs.artifact import Artifact
from strop.runs.code import code_version
from strop.runs.content import hash_file, hash_tree

FINGERPRINT_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a stage's artifact depends on.

    Attributes:
        value: The hash of everything below.
        function: The stage function, ``module:name``.
        code: The hash of the code that it runs.
        arguments: Its arguments in canonical form, by parameter name.
        inputs: The artifacts among its arguments, by parameter name.
    """

    value: str
    function: str
    code: str
    arguments: dict[str, Any]
    inputs: dict[str, list[Artifact]]


def fingerprint_call(function: Callable[..., None], *args: Any, **kwargs: Any) -> Fingerprint:
    """Fingerprint the call of a stage function; its first parameter, the stage, is not among `args`.

    Raises:
        TypeError: The arguments do not fit the function, or one of them has no canonical form.
    """
    bound = inspect.signature(function).bind(None, *args, **kwargs)
    bound.apply_defaults()
    given = dict(list(bound.arguments.items())[1:])
    arguments = {name: canonical(value, where=f"argument {name!r}") for name, value in given.items()}
    code = code_version(function)
    content = [FINGERPRINT_SCHEMA, function_name(function), code, arguments]
    inputs = {name: list(artifacts_in(value)) for name, value in given.items()}
    return Fingerprint(
        hash_json(content), function_name(function), code, arguments, {k: v for k, v in inputs.items() if v}
    )


def hash_json(content: Any) -> str:
    """Return the SHA-256 of a canonical value."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def function_name(function: Callable[..., Any]) -> str:
    """Return ``module:name`` of a function that lives at module level.

    Raises:
        TypeError: It is a lambda or a local function, whose captured variables no fingerprint can see.
    """
    name = getattr(function, "__qualname__", "")
    if not name.isidentifier():
        raise TypeError(
            f"{name or function!r}: only functions at module level have a fingerprint, not lambdas or locals"
        )
    return f"{function.__module__}:{name}"


def canonical(value: Any, *, where: str = "value") -> Any:
    """Return `value` as JSON that two values share exactly when a stage may treat them alike.

    Scalars stand for themselves (1, 1.0, True and "1" all differ); everything else is a list with its kind in front,
    so that no text or mapping can pass for a file or a model. Tuples equal lists, because YAML knows no tuples.

    Raises:
        TypeError: There is no canonical form; names `where` and the type.
        UserError: A path leads nowhere.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Enum):
        return ["enum", type(value).__qualname__, canonical(value.value, where=where)]
    if isinstance(value, Artifact):
        return ["artifact", value.digest]
    if isinstance(value, Path):
        return ["path", *_path(value, where)]
    if callable(getattr(value, "fingerprint", None)) and not isinstance(value, type):
        return ["fingerprint", type(value).__qualname__, str(value.fingerprint())]
    if inspect.isfunction(value):
        return ["function", function_name(value), code_version(value)]
    return _compound(value, where)


def _compound(value: Any, where: str) -> list[Any]:
    if _is_record(value):
        members = _fields(value).items()
        shown = {name: canonical(member, where=f"{where}.{name}") for name, member in members}
        return ["record", type(value).__qualname__, shown]
    if isinstance(value, Mapping):
        pairs = [
            [canonical(key, where=where), canonical(item, where=f"{where}[{key!r}]")] for key, item in value.items()
        ]
        return ["mapping", sorted(pairs, key=_order)]
    if isinstance(value, (list, tuple)):
        return ["sequence", [canonical(item, where=f"{where}[{index}]") for index, item in enumerate(value)]]
    if isinstance(value, (set, frozenset)):
        return ["set", sorted((canonical(item, where=where) for item in value), key=_order)]
    raise TypeError(
        f"{where} is a {type(value).__qualname__}, which has no fingerprint: pass an artifact, a path, a config, a "
        "dataclass, plain values or an object with a fingerprint() method"
    )


def _is_record(value: Any) -> bool:
    return isinstance(value, BaseModel) or (is_dataclass(value) and not isinstance(value, type))


def _order(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _path(path: Path, where: str) -> tuple[str, str]:
    if path.is_dir():
        return "folder", hash_tree(path)
    if path.is_file():
        # The suffix tells the format of a table, so it counts; the rest of the name does not.
        return "".join(path.suffixes[-2:]), hash_file(path)
    raise UserError(f"{where}: no such file or folder", value=str(path))


def _fields(value: Any) -> dict[str, Any]:
    """Return the fields that count: ``fingerprint: False`` in a field's extra or metadata takes it out."""
    if isinstance(value, BaseModel):
        extras = {name: field.json_schema_extra for name, field in type(value).model_fields.items()}
        declared = {
            name: isinstance(extra, dict) and extra.get("fingerprint") is False for name, extra in extras.items()
        }
        members = {name: getattr(value, name) for name in declared} | (value.model_extra or {})
    else:
        declared = {field.name: field.metadata.get("fingerprint") is False for field in fields(value)}
        members = {name: getattr(value, name) for name in declared}
    return {name: member for name, member in members.items() if not declared.get(name, False)}


def artifacts_in(value: Any) -> Iterator[Artifact]:
    """Yield the artifacts in an argument: itself, or the members of sequences, mappings, dataclasses and models."""
    if isinstance(value, Artifact):
        yield value
    elif _is_record(value):
        yield from artifacts_in(_fields(value))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from artifacts_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from artifacts_in(item)
