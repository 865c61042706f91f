"""YAML with the line of every value; a key that occurs twice is an error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from strop.errors import UserError


@dataclass(frozen=True, slots=True)
class Located:
    """Settings as read, and where each leaf stands (``FILE:LINE``), by dotted path. Both may be changed by flags."""

    values: dict[str, Any]
    origins: dict[str, str]


class _Loader(yaml.SafeLoader):
    """Reads ``1e-5`` as the number that it is; YAML 1.1 wants ``1.0e-5``."""


_Loader.yaml_implicit_resolvers = {key: list(found) for key, found in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_yaml(path: Path) -> Located:
    """Read a YAML file whose top is a mapping.

    Raises:
        UserError: The file cannot be read, is not YAML, repeats a key or has another top.
    """
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        origins = dict(_locate(node, path, "")) if node is not None else {}
        values = loader.construct_document(node) if node is not None else {}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("the file cannot be read", value=str(path), why=str(error)) from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML", why=_reason(error)) from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: settings must be 'key: value' lines", value=type(values).__name__)
    return Located(values, origins)


def _reason(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else str(problem)


def _locate(node: yaml.Node, path: Path, prefix: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                raise UserError(f"{path}:{line}: the key {key.value!r} was given before, on line {seen[key.value]}")
            seen[key.value] = line
            yield from _locate(value, path, f"{prefix}.{key.value}" if prefix else str(key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _locate(value, path, f"{prefix}.{index}" if prefix else str(index))
    if not isinstance(node, yaml.CollectionNode) or not node.value:
        yield prefix, f"{path.name}:{node.start_mark.line + 1}"


def parse_value(text: str, *, where: str) -> Any:
    """Read one value as YAML: ``2``, ``1e-5``, ``true``, ``[1, 2]``, ``text``.

    Raises:
        UserError: It is not YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not valid YAML", value=text, why=_reason(error)) from None
