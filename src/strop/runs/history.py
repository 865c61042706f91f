"""What a run did so far, read from its manifest: the state and the cost of each stage, and how often it was stopped."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from strop.errors import UserError
from strop.runs.manifest import read_manifest
from strop.runs.store import run_id


@dataclass(frozen=True, slots=True)
class StageHistory:
    """One stage of the latest execution.

    Attributes:
        stage: Number and name, ``NN-name``.
        status: ``started``, ``finished``, ``skipped`` (finished before), ``failed`` or ``interrupted``.
        seconds: What the attempt that finished took; None before, and where a kill hid it.
        calls: The model calls that it used.
        reused: How many of them the store answered, asked by another stage or run.
        tokens: The tokens of its calls.
        why: Why it failed or was interrupted.
        notes: What the stage noted about itself.
    """

    stage: str
    status: str
    seconds: float | None = None
    calls: int = 0
    reused: int = 0
    tokens: int = 0
    why: str | None = None
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunHistory:
    """A run up to now.

    Attributes:
        folder: The run folder.
        status: ``finished``, ``failed``, ``interrupted``, or ``open`` while it runs or after a kill.
        executions: How often its command was started.
        stops: How often it was interrupted or failed.
        seed: The run seed.
        config: The class of its configuration.
        stages: The stages of the latest execution, in order.
    """

    folder: Path
    status: str
    executions: int
    stops: int
    seed: int
    config: str
    stages: tuple[StageHistory, ...]


def read_history(run_folder: Path) -> RunHistory:
    """Read what a run did so far; safe while it runs.

    Raises:
        UserError: There is no run in the folder.
    """
    if run_id(run_folder) is None:
        raise UserError("there is no run in this folder", value=str(run_folder))
    description = json.loads((run_folder / "run.json").read_text(encoding="utf-8"))
    status, executions, stops = "open", 0, 0
    stages: dict[str, StageHistory] = {}
    costs: dict[str, dict[str, Any]] = {}
    notes: dict[str, dict[str, Any]] = {}
    for event in read_manifest(run_folder / "manifest.jsonl"):
        kind = event["event"]
        if kind == "opened":
            status, executions, stages = "open", executions + 1, {}
        elif kind == "closed":
            status, stops = event["status"], stops + (event["status"] != "finished")
        elif kind == "noted":
            notes.setdefault(event["stage"], {}).update(event["facts"])
        elif kind in ("started", "finished", "skipped", "failed", "interrupted"):
            stages[event["stage"]] = _stage(event, stages.get(event["stage"]), costs, notes)
    return RunHistory(
        folder=run_folder,
        status=status,
        executions=executions,
        stops=stops,
        seed=description["seed"],
        config=description["config"],
        stages=tuple(stages.values()),
    )


def _stage(
    event: dict[str, Any],
    before: StageHistory | None,
    costs: dict[str, dict[str, Any]],
    notes: dict[str, dict[str, Any]],
) -> StageHistory:
    name, kind = event["stage"], event["event"]
    # What a stage cost is told once, when it finishes; whoever skips it later finds it by its fingerprint.
    identity = f"{name.partition('-')[2]} {event.get('fingerprint')}"
    if kind == "started":
        notes.pop(name, None)
    if kind == "finished":
        cost = {key: event.get(key) for key in ("seconds", "calls", "reused", "tokens")}
        costs[identity] = cost | {"notes": dict(notes.get(name, {}))}
    if kind in ("finished", "skipped"):
        return StageHistory(name, kind, **costs.get(identity, {}))
    return replace(before or StageHistory(name, kind), status=kind, why=event.get("why"), notes=notes.get(name, {}))
