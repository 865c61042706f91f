"""``strop benchmark``: models on tasks with closed answers, beside every constant answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from strop.cli.benchmark_output import show_forgetting, show_report
from strop.cli.options import BudgetOption, Device, Dtype, Workspace, parse_budget, workspace_or_default
from strop.cli.output import AsJson, Quiet

MODES = "generative: replies are read; the others, for local models: the likeliest label, or option text."


def benchmark_command(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL...", help="builtin:NAME, a folder, http://HOST/v1#NAME; several are compared."),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option("--tasks", metavar="NAME=FILE,...", help="Tables to ask, or a YAML of tasks; repeatable."),
    ] = None,
    mode: Annotated[
        Literal["generative", "labels", "texts", "texts-per-character"], typer.Option(help=MODES)
    ] = "generative",
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="scores.json, and every prediction.")] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only the first N items of a task.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest reply in tokens.")] = 256,
    swaps: Annotated[
        str, typer.Option(metavar="A,B", help="Exchange patients' age, gender or ethnicity and measure what changes.")
    ] = "",
    published: Annotated[
        bool, typer.Option("--published", help="Also apply the published scorer, which calls empty answers right.")
    ] = False,
    harness: Annotated[
        str, typer.Option(metavar="A,B", help="Tasks of lm-evaluation-harness, run by it: what has been forgotten.")
    ] = "",
    include: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --harness: a folder of further tasks.")
    ] = None,
    write_harness: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the tasks for lm-evaluation-harness; no model is asked.")
    ] = None,
    budget: BudgetOption = None,
    workspace: Workspace = None,
    device: Device = None,
    dtype: Dtype = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure models on MedQA, MMLU, MedMCQA, PubMedQA, CAMS, Dreaddit, IRF, or questions of your own.

    Rows hold question, options and answer, or have one of the published layouts. An empty or unreadable reply is wrong.
    The same command continues after a stop and asks only what is missing.

    Example:
        strop benchmark BEFORE AFTER --tasks medqa=medqa.jsonl,pubmedqa=pubmedqa.jsonl --out scores
    """
    from strop.evaluation.benchmarks.files import Request, measure, measure_forgetting, read_tasks, write_tasks

    if write_harness is not None:
        for name in write_tasks(read_tasks(tasks or (), limit=limit), write_harness, mode=mode):
            typer.echo(f"lm-eval run --include_path {write_harness} --tasks {name}")
        return
    request = Request.of(
        models or (),
        mode=mode,
        max_tokens=max_tokens,
        published=published,
        swaps=swaps,
        device=device,
        dtype=dtype,
        budget=parse_budget(budget),
        quiet=quiet or as_json,
    )
    if harness:
        show_forgetting(measure_forgetting(request, harness.split(","), include=include, limit=limit), as_json=as_json)
        return
    report = measure(request, read_tasks(tasks or (), limit=limit), workspace=workspace_or_default(workspace), out=out)
    show_report(report, out=out, as_json=as_json)
