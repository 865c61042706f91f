"""From files to tasks: layouts are told by their fields, repeated rows are left out and counted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from strop.errors import UserError
from strop.evaluation.benchmarks.items import Family, Item, Task
from strop.evaluation.benchmarks.layouts import Place, cop_of, layout_of, read_medmcqa
from strop.records.tables import KINDS, read_table
from strop.runs.configuration import Config, validate
from strop.runs.shipped import DataPath
from strop.runs.yaml_files import Located, read_yaml

WITH_CONTEXTS = "pubmedqa_contexts"
"""The one task name that means something: PubMedQA with its contexts."""
NOT_PART_OF_A_SET = re.compile(r"^mmlu_|_(?:test|dev|val|validation)$")


class TaskSettings(Config):
    """Where a task's items are, and how to take them."""

    file: tuple[DataPath, ...]
    """A table, several, or a folder of tables; of several, each is a part with its name."""
    contexts: bool = False
    """Whether contexts are part of the prompt (PubMedQA)."""
    first_option: Literal[0, 1] | None = None
    """What `cop` calls the first option of a MedMCQA row; by default as the file's numbers tell."""
    duplicates: Literal["remove", "keep"] = "remove"
    """Whether rows that repeat another one are left out."""

    @field_validator("file", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, (str, Path)) else value


@dataclass(frozen=True, slots=True)
class _Row:
    """A row and where it stands."""

    content: Mapping[str, Any]
    place: Place


def parse_tasks(given: Sequence[str]) -> dict[str, TaskSettings]:
    """Read ``--tasks``: ``NAME=FILE``, several joined by commas, or a YAML file of tasks.

    A name that comes twice has two files.

    Raises:
        UserError: Something has another form.
    """
    found: dict[str, TaskSettings] = {}
    for text in given:
        if "=" not in text and text.endswith((".yaml", ".yml")):
            found |= _read_task_file(Path(text))
            continue
        for part in text.split(","):
            name, equals, path = (piece.strip() for piece in part.partition("="))
            if not (name and equals and path):
                raise UserError("a task is NAME=FILE", value=part, fix="for example --tasks medqa=medqa.jsonl")
            before = found[name].file if name in found else ()
            found[name] = TaskSettings(file=(*before, Path(path)), contexts=name == WITH_CONTEXTS)
    return found


def _read_task_file(path: Path) -> dict[str, TaskSettings]:
    located = read_yaml(path)
    tasks: dict[str, TaskSettings] = {}
    for name, value in located.values.items():
        settings = dict(value) if isinstance(value, dict) else {"file": value}
        settings.setdefault("contexts", name == WITH_CONTEXTS)
        origins = {key.partition(".")[2]: line for key, line in located.origins.items() if key.startswith(f"{name}.")}
        task = validate(TaskSettings, Located(settings, origins), where=f"{path}: {name}")
        assert isinstance(task, TaskSettings)
        tasks[str(name)] = task.model_copy(update={"file": tuple(path.parent / file for file in task.file)})
    return tasks


def read_task(name: str, settings: TaskSettings, *, limit: int | None = None) -> Task:
    """Read a task's items.

    Args:
        name: What to call it.
        settings: Where its items are.
        limit: Only so many of the first items.

    Raises:
        UserError: A file or a row cannot be read, the rows belong to different families, two rows of one id differ, or
            there is no item.
    """
    files = [file for path in settings.file for file in _tables(path)]
    rows = [row for file in files for row in _rows(file, several=len(files) > 1)]
    rows = _count_from(rows, settings.first_option)
    families: dict[tuple[Family, str], str] = {}
    items: list[Item] = []
    for row in rows:
        reader = layout_of(row.content, row.place.where)
        family, item = reader(row.content, row.place)
        families.setdefault((family, reader.__name__.removeprefix("read_")), row.place.where)
        items.append(replace(item, id=f"{row.place.part}/{item.id}") if len(files) > 1 else item)
    if not items:
        raise UserError(f"task {name!r} has no item", value=[str(file) for file in files])
    if len(families) > 1:
        told = ", ".join(f"{layout} ({family}) in {where}" for (family, layout), where in families.items())
        raise UserError(f"task {name!r} mixes items of different kinds", value=told, fix="make them tasks of their own")
    kept = _without_repeats(items, name) if settings.duplicates == "remove" else _numbered(items)
    ((family, layout),) = families
    return Task(
        name=name,
        family=family,
        items=tuple(kept[:limit]),
        layout=layout,
        files=tuple(map(str, files)),
        duplicates=len(items) - len(kept),
        with_contexts=settings.contexts,
    )


def _tables(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.name.removesuffix(".gz").endswith(KINDS))
    if not found:
        raise UserError("a folder without tables", value=str(path), alternatives=KINDS)
    return found


def _rows(file: Path, *, several: bool) -> Iterator[_Row]:
    stem = file.name.partition(".")[0]
    part = NOT_PART_OF_A_SET.sub("", NOT_PART_OF_A_SET.sub("", stem)) if several or stem.startswith("mmlu_") else ""
    for number, content in enumerate(read_table(file)):
        yield _Row(content, Place(f"{file}, row {number + 1}", number, part, first_option=1))


def _count_from(rows: list[_Row], first: int | None) -> list[_Row]:
    """Tell from all rows whether `cop` counts from 0 or from 1."""
    numbers = {
        cop_of(row.content, row.place.where): row.place.where
        for row in rows
        if layout_of(row.content, row.place.where) is read_medmcqa
    }
    for number, where in numbers.items():
        if not 0 <= number <= 4:
            why = "MedMCQA is distributed both ways; -1 marks a set without answers"
            raise UserError(f"{where}: cop must be 0 to 3, or 1 to 4", value=number, why=why)
    if first is None and numbers:
        if 0 in numbers and 4 in numbers:
            why = f"{numbers[0]} counts from 0, {numbers[4]} from 1"
            raise UserError("cop counts the options in two ways", why=why, fix="repair one of the files")
        if 0 not in numbers and 4 not in numbers:
            raise UserError(
                "cop may count the options from 0 or from 1",
                value=sorted(numbers),
                why="MedMCQA is distributed both as 0 to 3 and as 1 to 4, and no row has 0 or 4",
                fix="say first_option: 0 or first_option: 1 in a YAML file of tasks",
            )
        first = 0 if 0 in numbers else 1
    return [replace(row, place=replace(row.place, first_option=first or 0)) for row in rows]


def _without_repeats(items: Sequence[Item], name: str) -> list[Item]:
    """Return the items without those that repeat an earlier one.

    Rows are the same where their ids and contents are, or where one without a right to an id of its own, numbered by
    its place, has the content of another.
    """
    by_id: dict[Any, Item] = {}
    contents = set()
    kept = []
    for item in items:
        earlier = by_id.setdefault(item.id, item)
        if earlier.content() != item.content():
            raise UserError(
                f"task {name!r}: two different items have one id",
                value=item.id,
                fix="give each its own, or say duplicates: keep in a YAML file of tasks",
            )
        if item.content() not in contents:
            contents.add(item.content())
            kept.append(item)
    return kept


def _numbered(items: Sequence[Item]) -> list[Item]:
    """Give each item an id of its own: a repeated id gets the number of its place."""
    seen: set[Any] = set()
    kept = []
    for place, item in enumerate(items):
        kept.append(item if item.id not in seen else replace(item, id=f"{item.id}#{place}"))
        seen.add(item.id)
    return kept
