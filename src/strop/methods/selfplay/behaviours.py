"""Behaviour principles: how a realistic patient behaves in a session, in groups of which a patient is given one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strop.errors import UserError
from strop.runs.shipped import DATA

BEHAVIOURS = DATA / "selfplay" / "behaviours-v1.json"


@dataclass(frozen=True, slots=True)
class Behaviours:
    """A library of principles.

    Attributes:
        name: What it is called.
        version: Which edition of it; empty where the file states none.
        groups: The principles of each group, by its key, in the order of the file.
        titles: What a group is about, by its key; empty where the file names none.
    """

    name: str
    version: str
    groups: Mapping[str, tuple[str, ...]]
    titles: Mapping[str, str] = field(default_factory=dict)


def read_behaviours(path: Path = BEHAVIOURS) -> Behaviours:
    """Read a library: ours, or the released ``roleplay.json`` (group numbers and their lists of principles).

    Args:
        path: A JSON file; the shipped library by default.

    Raises:
        UserError: The file is missing or no JSON, or a group is not a list of texts.
    """
    content = _read(path)
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: a library is a JSON object of groups", value=type(content).__name__)
    own = isinstance(content.get("groups"), dict)
    found: Mapping[str, Any] = content["groups"] if own else content
    groups = {key: _principles(value, f"{path}: group {key!r}") for key, value in found.items()}
    if not groups:
        raise UserError(f"{path}: the library has no group")
    titles = {key: str(value["title"]) for key, value in found.items() if isinstance(value, dict) and "title" in value}
    name = str(content.get("name", path.stem)) if own else path.stem
    return Behaviours(name, str(content.get("version", "")) if own else "", groups, titles)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise UserError("the behaviour library cannot be read", value=str(path), why=problem.strerror) from problem
    except ValueError as problem:
        raise UserError("the behaviour library is no JSON", value=str(path), why=str(problem)) from problem


def _principles(value: Any, where: str) -> tuple[str, ...]:
    listed = value.get("principles") if isinstance(value, dict) else value
    if not isinstance(listed, list) or not listed:
        raise UserError(f"{where} must hold a list of principles", value=value)
    for principle in listed:
        if not isinstance(principle, str) or not principle.strip():
            raise UserError(f"{where}: a principle must be text", value=principle)
    return tuple(principle.strip() for principle in listed)
