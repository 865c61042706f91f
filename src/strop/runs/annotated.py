"""A configuration as YAML that explains itself: the docstring of each field above it, its origin beside it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel

COMMENT_WIDTH = 110


def annotated_yaml(config: BaseModel, *, origins: Mapping[str, str] | None = None) -> str:
    """Return `config` as YAML that reads back as the same configuration.

    Args:
        config: A configuration.
        origins: Where each value comes from, by dotted path; left out of the text where None.
    """
    return "\n".join(_lines(config, config.model_dump(mode="json"), origins, prefix="", indent="")) + "\n"


def _lines(
    config: BaseModel, dumped: Mapping[str, Any], origins: Mapping[str, str] | None, *, prefix: str, indent: str
) -> Iterator[str]:
    for name, field in type(config).model_fields.items():
        if name not in dumped:
            continue
        for line in textwrap.wrap(" ".join((field.description or "").split()), COMMENT_WIDTH - len(indent)):
            yield f"{indent}# {line}"
        path, value = f"{prefix}{name}", getattr(config, name)
        if isinstance(value, BaseModel) and isinstance(dumped[name], dict) and dumped[name]:
            yield f"{indent}{name}:"
            yield from _lines(value, dumped[name], origins, prefix=f"{path}.", indent=indent + "  ")
        else:
            yield from _value(name, dumped[name], _origin(path, origins), indent)


def _value(name: str, value: Any, origin: str, indent: str) -> Iterator[str]:
    text = yaml.safe_dump({name: value}, sort_keys=False, allow_unicode=True, width=10_000).rstrip("\n").split("\n")
    # A text over several lines would take the comment in as part of itself.
    comment = f"  # {origin}" if origin and (len(text) == 1 or text[0].endswith(":")) else ""
    yield indent + text[0] + comment
    yield from (indent + line if line else line for line in text[1:])


def _origin(path: str, origins: Mapping[str, str] | None) -> str:
    below = {origin for leaf, origin in (origins or {}).items() if leaf == path or leaf.startswith(path + ".")}
    return ", ".join(sorted(below))
