"""Benchmarks on files: from what a command line names to a report, and to files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from strop.errors import UserError
from strop.evaluation.benchmarks.comparison import Compared, compare
from strop.evaluation.benchmarks.forgetting import harness_outcomes
from strop.evaluation.benchmarks.harness import write_harness
from strop.evaluation.benchmarks.items import Task
from strop.evaluation.benchmarks.readers import parse_tasks, read_task
from strop.evaluation.benchmarks.running import (
    MODES,
    Answers,
    Asked,
    BenchmarkReport,
    Mode,
    answer_tasks,
    swapped_tasks,
    write_files,
)
from strop.evaluation.benchmarks.swaps import SWAPS, Swap
from strop.models.local import resolve_device, resolve_dtype
from strop.models.opening import model_folder
from strop.models.placement import Placement, open_placed
from strop.models.spec import ModelSpec, parse_model
from strop.runs.budget import UNLIMITED, Budget
from strop.runs.progress import Reporter
from strop.runs.workspace import open_calls

COMMAND = "benchmark"


@dataclass(frozen=True, slots=True)
class Request:
    """Which models are measured, and how.

    Attributes:
        models: Which, with names of their own.
        asked: How tasks are asked.
        placement: Where local models run.
        budget: The most that each model may spend.
        quiet: Whether to keep progress to itself.
    """

    models: tuple[tuple[str, ModelSpec], ...]
    asked: Asked
    placement: Placement
    budget: Budget
    quiet: bool

    @classmethod
    def of(
        cls,
        models: Sequence[str],
        *,
        mode: Mode,
        max_tokens: int,
        published: bool = False,
        swaps: str = "",
        device: str | None = None,
        dtype: str | None = None,
        budget: Budget = UNLIMITED,
        quiet: bool = False,
    ) -> Self:
        """Read a request as a command line has it.

        Raises:
            UserError: No model, one twice, an unknown swap, or the published scorer without replies.
        """
        if not models:
            raise UserError("which model is to be measured?", fix="strop benchmark MODEL --tasks NAME=FILE")
        repeated = sorted({model for model in models if models.count(model) > 1})
        if repeated:
            raise UserError("a model is named twice", value=repeated)
        if published and mode != "generative":
            raise UserError("the published scorer reads replies", value=f"--mode {mode}", fix="use --mode generative")
        placement = Placement.model_validate({"device": device or "auto", "dtype": dtype or "auto"})
        asked = Asked(mode, max_tokens, published, _swaps(swaps))
        return cls(tuple((model, parse_model(model)) for model in models), asked, placement, budget, quiet)


def read_tasks(given: Sequence[str], *, limit: int | None = None) -> list[Task]:
    """Read the tasks that ``--tasks`` names; see `parse_tasks` and `read_task`.

    Raises:
        UserError: None is named, or one of them cannot be read.
    """
    settings = parse_tasks(given)
    if not settings:
        raise UserError("which tasks are to be asked?", fix="give --tasks NAME=FILE, or a YAML file of tasks")
    return [read_task(name, of, limit=limit) for name, of in settings.items()]


def measure(request: Request, tasks: Sequence[Task], *, workspace: Path, out: Path | None = None) -> BenchmarkReport:
    """Ask models tasks, one model after the other.

    Args:
        request: Which models, and how.
        tasks: What to ask.
        workspace: Keeps replies, so that none is asked for twice.
        out: Gets the scores and every prediction, where given.
    """
    reporter = Reporter(quiet=request.quiet)
    answers = [_answers(request, name, spec, tasks, workspace, reporter) for name, spec in request.models]
    report = BenchmarkReport(request.asked, tasks, answers)
    if out is not None:
        write_files(report, out, lambda content: json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return report


def measure_forgetting(
    request: Request, tasks: Sequence[str], *, include: Path | None = None, limit: int | None = None
) -> list[Compared]:
    """Run tasks of lm-evaluation-harness on two or more local models and compare each with the first.

    Args:
        request: Which models; the first is the one before training.
        tasks: The harness's names of them.
        include: A folder of further tasks.
        limit: Only so many items of each task.

    Raises:
        UserError: Fewer than two models, one without weights here, or see `harness_outcomes`.
    """
    if len(request.models) < 2:
        raise UserError("forgetting takes two models", value=[name for name, _ in request.models], fix="BEFORE AFTER")
    device = resolve_device(request.placement.device)
    dtype = resolve_dtype(request.placement.dtype, device=device)
    found = [
        (name, harness_outcomes(model_folder(spec), tasks, include=include, limit=limit, device=device, dtype=dtype))
        for name, spec in request.models
    ]
    (before, first), *others = found
    return [compare(task, (name, of[task]), (before, first[task])) for name, of in others for task in first]


def write_tasks(tasks: Sequence[Task], folder: Path, *, mode: Mode) -> list[str]:
    """Write tasks for lm-evaluation-harness; return the names to run. It scores labels unless `mode` says texts."""
    return write_harness(tasks, folder, scored="texts" if mode.startswith("texts") else "labels")


def _answers(
    request: Request, name: str, spec: ModelSpec, tasks: Sequence[Task], workspace: Path, reporter: Reporter
) -> Answers:
    copies = [copy for task in tasks for _, copy in swapped_tasks(task, request.asked.swaps)]
    total = sum(len(task.items) for task in (*tasks, *copies))
    model = open_placed(spec, request.placement)
    try:
        with (
            open_calls(workspace, COMMAND, name, budget=request.budget) as store,
            reporter.progress(f"{name}: {MODES[request.asked.mode]}", total) as advance,
        ):
            # Two folders may have one name; what was typed tells them apart.
            return replace(answer_tasks(tasks, model, request.asked, store=store, advance=advance), model=name)
    finally:
        model.close()


def _swaps(given: str) -> tuple[Swap, ...]:
    names = [name.strip() for name in given.split(",") if name.strip()]
    for name in names:
        if name not in SWAPS:
            raise UserError("nothing of that name can be exchanged", value=name, alternatives=SWAPS)
    return tuple(swap for swap in SWAPS if swap in names)
