"""``strop judge compare``: a file of pairs in, a file of comparisons out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from strop.cli.judge_options import (
    Again,
    Ceiling,
    Certificate,
    Judge,
    MaxTokens,
    Out,
    Quiet,
    Seed,
    request_of,
    show_judged,
)
from strop.cli.options import BudgetOption, Device, Dtype, Fields, Workspace, parse_budget, workspace_or_default
from strop.cli.output import AsJson


def compare_command(
    pairs: Annotated[
        Path,
        typer.Argument(metavar="PAIRS", help="Rows of prompt, first and second (or better/worse, chosen/rejected)."),
    ],
    judge: Judge,
    out: Out,
    rubric: Annotated[
        str | None, typer.Option(metavar="R", help="A shipped rubric or a file; fitted judges take none.")
    ] = None,
    per_criterion: Annotated[bool, typer.Option("--per-criterion", help="Ask by each criterion as well.")] = False,
    anchors: Annotated[
        bool, typer.Option(help="Judge fixed pairs first and print what changed since last time.")
    ] = True,
    certificate: Certificate = None,
    fields: Fields = None,
    max_tokens: MaxTokens = 1024,
    again: Again = 1,
    ceiling: Ceiling = 0.2,
    seed: Seed = 0,
    budget: BudgetOption = None,
    workspace: Workspace = None,
    device: Device = None,
    dtype: Dtype = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Compare two responses, always in both orders; a verdict that depends on the order is a tie.

    Every reply is stored: the same command continues after a stop and asks only what is missing.

    Example:
        strop judge compare pairs.jsonl --judge http://localhost:8000/v1#NAME --rubric principles-v1 --out out.jsonl
    """
    from strop.judging.judged_files import compare_file
    from strop.runs.progress import Reporter

    request = request_of(judge, rubric, out, fields, certificate, max_tokens, again, ceiling, seed, device, dtype)
    judged = compare_file(
        pairs,
        replace(request, budget=parse_budget(budget)),
        workspace=workspace_or_default(workspace),
        reporter=Reporter(quiet=quiet or as_json),
        per_criterion=per_criterion,
        anchors=anchors,
    )
    show_judged(judged, out, as_json=as_json)
