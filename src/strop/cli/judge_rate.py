"""``strop judge rate``: a file of responses in, a file of ratings out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

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


def rate_command(
    answers: Annotated[Path, typer.Argument(metavar="ANSWERS", help="Rows of id, prompt and response (or responses).")],
    judge: Judge,
    rubric: Annotated[
        str, typer.Option(metavar="R", help="A shipped rubric, principles-v1 or reasoning-v1, or a file.")
    ],
    out: Out,
    mode: Annotated[
        Literal["all", "each", "shuffled"],
        typer.Option(help="All criteria in one call; a call for each; or one call in shuffled order."),
    ] = "all",
    expected: Annotated[
        bool, typer.Option("--expected", help="Local models: expected ratings from probabilities, no replies.")
    ] = False,
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
    """Rate responses by a rubric, 1 to 5 for each criterion; what cannot be read is a failure and never a number.

    Every reply is stored: the same command continues after a stop and asks only what is missing.

    Example:
        strop judge rate answers.jsonl --judge http://localhost:8000/v1#NAME --rubric principles-v1 --out ratings.jsonl
    """
    from strop.judging.judged_files import rate_file
    from strop.runs.progress import Reporter

    request = request_of(judge, rubric, out, fields, certificate, max_tokens, again, ceiling, seed, device, dtype)
    judged = rate_file(
        answers,
        replace(request, budget=parse_budget(budget)),
        workspace=workspace_or_default(workspace),
        reporter=Reporter(quiet=quiet or as_json),
        mode=mode,
        expected=expected,
    )
    show_judged(judged, out, as_json=as_json)
