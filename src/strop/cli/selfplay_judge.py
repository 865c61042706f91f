"""``strop selfplay judge``: do talks pass for people's, are answers reasonable, by a judge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from strop.cli.judge_options import Again, Ceiling, Judge, MaxTokens, Out, Quiet, request_of
from strop.cli.options import BudgetOption, Device, Dtype, Fields, Workspace, parse_budget, workspace_or_default
from strop.cli.output import AsJson, print_json, print_table

if TYPE_CHECKING:
    from strop.methods.selfplay.judging_files import JudgedTexts


def judge_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Session records or talks; for validity, answers.")],
    judge: Judge,
    question: Annotated[
        Literal["authenticity", "validity"], typer.Option(help="Written by people? Or: a reasonable answer?")
    ],
    out: Out,
    fields: Fields = None,
    max_tokens: MaxTokens = 512,
    again: Again = 1,
    ceiling: Ceiling = 0.2,
    budget: BudgetOption = None,
    workspace: Workspace = None,
    device: Device = None,
    dtype: Dtype = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Ask a judge about every row; shares with 95 % Wilson intervals, unreadable replies counted and in no share.

    Put talks or answers of people into the same file and name the author in each row: only beside them does the share
    mean anything. Every reply is stored: the same command continues after a stop.

    Example:
        strop selfplay judge sessions.jsonl --judge openai:gpt-4o --question authenticity --out verdicts.jsonl
    """
    from strop.methods.selfplay.judging_files import judge_texts
    from strop.runs.progress import Reporter

    request = request_of(judge, None, out, fields, None, max_tokens, again, ceiling, 0, device, dtype)
    asked = None if request.asking is None else replace(request.asking, form="text")
    found = judge_texts(
        file,
        replace(request, asking=asked, budget=parse_budget(budget)),
        question=question,
        workspace=workspace_or_default(workspace),
        reporter=Reporter(quiet=quiet or as_json),
    )
    if as_json:
        print_json({**found.to_row(), "out": str(out)})
        return
    print_table(f"{question}, by {judge}", _table(found))
    if len(found.shares()) < 3:
        typer.echo("One kind of author only: nothing here says what this judge would say of another's texts.")
    typer.echo(f"written: {out}")


def _table(found: JudgedTexts) -> list[dict[str, Any]]:
    verdict = found.to_row()["verdict"]
    return [
        {
            "author": author,
            "rows": rows,
            "no verdict": unread,
            f"share {verdict}": "-" if share is None else f"{share.estimate:.1%} [{share.low:.1%}, {share.high:.1%}]",
        }
        for author, (rows, unread, share) in found.shares().items()
    ]
