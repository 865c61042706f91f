"""The stages of a head-to-head comparison that are its own: which prompts are drawn, and the judge's anchors."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from strop.errors import UserError
from strop.judging.anchors import judge_anchors, record_anchors
from strop.judging.settings import JudgeSettings, open_configured
from strop.models.placement import Placement
from strop.records.rows import prompt_from_json, prompt_to_json
from strop.records.tables import iter_table
from strop.runs import Stage, stream

Numbered = tuple[int, dict[str, Any]]


def draw(
    stage: Stage, prompts: Path, *, fields: dict[str, str], group: str | None, limit: int | None, seed: int
) -> None:
    """Write the prompts to compare on, in the order of the file: `id`, `prompt`, `group`."""
    rows = (
        (number, _drawn(row, number, prompts, group)) for number, row in enumerate(iter_table(prompts, fields=fields))
    )
    chosen = rows if limit is None else iter(sorted(_sample(rows, limit, stream(seed, "prompts"))))
    stage.write_rows(row for _, row in chosen)


def _drawn(row: dict[str, Any], number: int, path: Path, group: str | None) -> dict[str, Any]:
    where = f"{path}, row {number + 1}"
    for name in ("prompt", *([group] if group else [])):
        if name not in row:
            fix = "map one of its fields with fields, or correct 'group'"
            raise UserError(f"{where}: no field {name!r}", value=sorted(row), fix=fix)
    prompt = prompt_to_json(prompt_from_json(row["prompt"]))
    together = row[group] if group else json.dumps(prompt, ensure_ascii=False)
    return {"id": row.get("id", number), "prompt": prompt, "group": str(together)}


def _sample(rows: Iterable[Numbered], size: int, random: Random) -> list[Numbered]:
    """Return a uniform sample without holding the rest (algorithm R, Vitter 1985)."""
    stream_of_rows = iter(rows)
    kept = list(islice(stream_of_rows, size))
    for seen, row in enumerate(stream_of_rows, size + 1):
        place = random.randrange(seen)
        if place < size:
            kept[place] = row
    return kept


def judge_anchor_set(stage: Stage, *, settings: JudgeSettings, placement: Placement) -> None:
    """Judge the anchors anew and keep the result in the workspace: `anchors.jsonl`, one verdict a pair.

    The artifact holds the verdicts alone: how they differ from the last run's is a fact about the workspace.
    """
    with open_configured(settings, placement, store=stage.store) as judging:
        result = judge_anchors(judging, calls=stage.work / "anchors.sqlite")
    record_anchors(stage.store.path.parent, result)
    stage.write_rows(
        (
            {"id": pair, "verdict": verdict, "flipped": pair in result.flipped}
            for pair, verdict in result.verdicts.items()
        ),
        "anchors.jsonl",
    )
