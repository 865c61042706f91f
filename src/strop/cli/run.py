"""``strop run``: runs a recipe, and continues it after any stop."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strop.cli.options import (
    BudgetOption,
    Device,
    Dtype,
    RecipeArgument,
    Sets,
    Workspace,
    load,
    parse_budget,
    workspace_or_default,
)
from strop.cli.output import AsJson, print_json

if TYPE_CHECKING:
    from strop.records.document import Document
    from strop.runs.budget import Budget
    from strop.runs.configuration import Loaded

RUN_SEED = 0
"""Recipes hand the seeds of their settings to their stages; the run's own stays, so that a new seed reuses stages."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that reached its end."""

    run: Path
    report: Path


def run_command(
    recipe: RecipeArgument,
    set_: Sets = None,
    name: Annotated[str | None, typer.Option(help="Name of the run's folder; the recipe's name by default.")] = None,
    workspace: Workspace = None,
    device: Device = None,
    dtype: Dtype = None,
    budget: BudgetOption = None,
    as_json: AsJson = False,
) -> None:
    """Run a recipe; the last line is the path of its report.

    The same command continues a run that was stopped, at any moment, in any way: finished stages are skipped and no
    answered call is asked again. A changed setting runs the stages that depend on it.

    Example:
        strop run weak_to_strong/cpu --name stories --set seeds=[1,2,3]
    """
    loaded = load(recipe, set_, device=device, dtype=dtype)
    finished = execute(
        loaded, name=name, workspace=workspace_or_default(workspace), budget=parse_budget(budget), quiet=as_json
    )
    if as_json:
        print_json({"recipe": loaded.name, "run": str(finished.run), "report": str(finished.report)})
    else:
        typer.echo(finished.report)


def execute(
    loaded: Loaded, *, name: str | None, workspace: Path, quiet: bool, budget: Budget | None = None
) -> Finished:
    """Run a recipe in its folder of the workspace.

    Args:
        loaded: The recipe.
        name: The folder's name; None makes it from the recipe's name.
        workspace: Where the folder and the call store are.
        quiet: Whether to keep progress to itself.
        budget: The most that the run may spend over all its executions; None sets no limit.
    """
    from strop.models.placement import cluster_kept
    from strop.report import write_report
    from strop.runs.budget import UNLIMITED
    from strop.runs.configuration import import_object
    from strop.runs.run import Run
    from strop.runs.workspace import run_folder

    folder = run_folder(workspace, name or loaded.name.replace("/", "-"))
    recipe = import_object(loaded.function)
    with (
        cluster_kept(dict(loaded.config).get("machine")),
        Run.open(
            folder,
            config=loaded.config,
            origins=loaded.origins,
            seed=RUN_SEED,
            workspace=workspace,
            budget=budget or UNLIMITED,
            quiet=quiet,
        ) as run,
    ):
        document = recipe(loaded.config, run)
    return Finished(folder.resolve(), write_report(with_run_facts(document, folder), folder).resolve())


def with_run_facts(document: Document, folder: Path) -> Document:
    """Add to a method's report what the run folder knows: versions, the cost of every stage, attempts that failed."""
    from strop.records.document import Fact, StageFact, Table
    from strop.runs.history import read_history
    from strop.runs.lineage import store_of
    from strop.runs.store import CallStore

    history = read_history(folder)
    stages = tuple(
        StageFact(stage.stage, stage.seconds or 0.0, stage.calls, stage.reused, stage.tokens)
        for stage in history.stages
    )
    described = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    machine = tuple(Fact(name, str(value)) for name, value in described["versions"].items())
    with CallStore(store_of(folder)) as store:
        failures = store.failures_of(described["id"])
    lost = Table(
        "Attempts that failed",
        ("model", "kind", "attempts", "given up", "seconds"),
        tuple((each.model, each.kind, each.attempts, each.given_up, round(each.seconds, 1)) for each in failures),
        ("A failed attempt is repeated within bounds. It is never an answer, and what is given up is named.",),
    )
    tables = (*document.tables, *([lost] if failures else []))
    return replace(document, stages=stages, machine=machine, tables=tables)
