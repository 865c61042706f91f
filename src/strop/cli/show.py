"""``strop show``: what a run did, in the terminal."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from strop.cli.options import Workspace, workspace_or_default
from strop.cli.output import AsJson, print_json, print_table

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or the name of a run of the workspace.")]


def locate(run: str, workspace: Path | None) -> Path:
    """Return the folder of a run, given by path or by name."""
    from strop.runs.workspace import find_run

    return find_run(run, workspace_or_default(workspace))


def show_command(run: RunArgument, workspace: Workspace = None, as_json: AsJson = False) -> None:
    """Show the stages of a run with their state, time, calls and tokens, and its main numbers where it has a report.

    Example:
        strop show first
    """
    from strop.runs.history import read_history
    from strop.runs.lineage import read_report, store_of
    from strop.runs.store import CallStore, run_id

    history = read_history(locate(run, workspace))
    numbers = read_report(history.folder) if (history.folder / "report.json").is_file() else []
    headlines = [number for number in numbers if number.get("headline", True)]
    with CallStore(store_of(history.folder)) as store:
        identifier = run_id(history.folder) or ""
        spent, failures = store.spent(identifier), store.failures_of(identifier)
    if as_json:
        lost = [asdict(failure) for failure in failures]
        print_json({**asdict(history), "numbers": headlines, "spent": asdict(spent), "failed_attempts": lost})
        return
    typer.echo(f"{history.folder}: {history.status}, seed {history.seed}, {history.config}")
    typer.echo(f"started {history.executions} times, stopped {history.stops} times\n")
    columns = ("stage", "status", "seconds", "calls", "reused", "tokens")
    print_table("Stages", [{name: getattr(stage, name) for name in columns} for stage in history.stages])
    for stage in history.stages:
        if stage.why:
            typer.echo(f"{stage.stage}: {stage.status}: {stage.why}")
    unpriced = f", {spent.unpriced:,} of them at an unknown price" if spent.unpriced else ""
    typer.echo(
        f"paid for by this run: {spent.calls:,} calls, {spent.tokens:,} tokens, money {spent.money:,.4g}{unpriced}"
    )
    if failures:
        print_table("Attempts that failed", [asdict(failure) for failure in failures])
    if headlines:
        shown = ("name", "value", "low", "high", "n")
        print_table("Numbers", [{name: number.get(name) for name in shown} for number in headlines])
