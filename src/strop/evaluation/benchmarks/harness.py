"""The same tasks for lm-evaluation-harness: a YAML and a table for each, to be run there with ``--include_path``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from strop.errors import UserError
from strop.evaluation.benchmarks.items import Item, Task
from strop.evaluation.benchmarks.prompts import Scored, item_row, template_file, template_name
from strop.records.tables import atomic_path, write_table
from strop.runs.yaml_files import read_yaml

PREFIX = "strop_"


def write_harness(tasks: Sequence[Task], folder: Path, *, scored: Scored = "labels") -> list[str]:
    """Write tasks of lm-evaluation-harness that ask what strop asks by log-likelihood, in the same words.

    A task of several parts becomes a task for each and a group whose accuracy is over all items. The tables hold the
    items themselves: those of IMHI quote real people.

    Args:
        tasks: What to write.
        folder: Gets ``strop_NAME.yaml`` and ``strop_NAME.jsonl``.
        scored: Whether labels or the texts of options are scored.

    Returns:
        The names to run, one for each of `tasks`.

    Raises:
        UserError: Two of them come to the same name.
    """
    folder = folder.resolve()
    names: list[str] = []
    for task in tasks:
        name = _name(task.name)
        if name in names:
            raise UserError("two tasks have the same name in the harness", value=name, fix="rename one of them")
        names.append(name)
        template = dict(read_yaml(template_file(template_name(task, scored))).values)
        parts = dict.fromkeys(item.part for item in task.items)
        if len(parts) == 1:
            _write(folder, name, template, task.items)
            continue
        members = {part: f"{name}_{_slug(part)}" for part in parts}
        for part, member in members.items():
            _write(folder, member, template, [item for item in task.items if item.part == part])
        _write_yaml(folder / f"{name}.yaml", _group(name, list(members.values())))
    return names


def _name(task: str) -> str:
    return PREFIX + _slug(task)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "other"


def _group(name: str, members: Sequence[str]) -> dict[str, Any]:
    metrics = [{"metric": metric, "weight_by_size": True} for metric in ("acc", "acc_norm")]
    return {"group": name, "task": list(members), "aggregate_metric_list": metrics, "metadata": {"version": 1}}


def _write(folder: Path, name: str, template: dict[str, Any], items: Sequence[Item]) -> None:
    table = folder / f"{name}.jsonl"
    # One type for the column: the harness's tables have no mixed ones.
    write_table(table, ({**item_row(item), "id": str(item.id)} for item in items))
    place = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(table)}}}
    _write_yaml(folder / f"{name}.yaml", {"task": name, **place, **template})


def _write_yaml(path: Path, content: dict[str, Any]) -> None:
    with atomic_path(path) as part:
        part.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")
