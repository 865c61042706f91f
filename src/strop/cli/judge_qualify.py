"""``strop judge qualify``: has a judge earned trust? Its verdicts beside people's, and a certificate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strop.cli.options import (
    BudgetOption,
    Device,
    Dtype,
    Fields,
    Workspace,
    parse_budget,
    parse_fields,
    workspace_or_default,
)
from strop.cli.output import AsJson, Quiet, print_json, print_table

if TYPE_CHECKING:
    from strop.judging.qualifying.certificate import Certificate
    from strop.judging.qualifying.qualification import Qualification


RatingsFields = Annotated[
    list[str] | None, typer.Option("--ratings-fields", metavar="A=B", help="As --fields, for the file of --ratings.")
]


def qualify_command(
    judge: Annotated[str, typer.Option(metavar="M", help="A model, or the folder of a fitted judge.")],
    pairs: Annotated[Path, typer.Option(metavar="F", help="Human pairs: prompt, better, worse; optionally group.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the certificate and the report.")],
    rubric: Annotated[
        str | None, typer.Option(metavar="R", help="A shipped rubric or a file; fitted judges take none.")
    ] = None,
    fields: Fields = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Only N pairs, a mixture that the file's order leaves alone.")
    ] = None,
    ratings: Annotated[
        Path | None,
        typer.Option(metavar="F", help="Also rate these responses, which people scored: context, response, score."),
    ] = None,
    scale: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH", help="The ends of people's scores in --ratings; 1,5 by default.")
    ] = None,
    ratings_fields: RatingsFields = None,
    thresholds: Annotated[
        Path | None, typer.Option(metavar="F", help="Thresholds of your own; the shipped ones by default.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest reply of a model.")] = 1024,
    again: Annotated[int, typer.Option(min=0, help="How many more times an unreadable reply is asked for.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the order of responses, folds and intervals.")] = 0,
    anchors: Annotated[
        bool, typer.Option("--anchors", help="Judge the anchors too: later runs then tell whether the judge drifted.")
    ] = False,
    budget: BudgetOption = None,
    workspace: Workspace = None,
    device: Device = None,
    dtype: Dtype = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure a judge against human labels and write its certificate.

    Prints agreement by slice beside baselines that need no judge, and one verdict: qualified, not qualified, or cannot
    tell at this n. Every reply is stored: the same command continues after a stop.

    Example:
        strop judge qualify --judge builtin:smollm2-135m --rubric principles-v1 --pairs pairs.jsonl --out judged
    """
    from strop.judging.asking import Asking
    from strop.judging.qualifying.qualify_files import QualifyRequest, qualify_file
    from strop.judging.qualifying.rated import parse_scale
    from strop.models.placement import Placement
    from strop.models.protocol import Sampling
    from strop.runs.progress import Reporter

    request = QualifyRequest(
        judge,
        pairs,
        out,
        rubric=rubric,
        fields=parse_fields(fields),
        ratings=ratings,
        ratings_fields=parse_fields(ratings_fields),
        scale=None if scale is None else parse_scale(scale),
        limit=limit,
        thresholds=thresholds,
        asking=Asking(Sampling(max_tokens=max_tokens), again=again),
        seed=seed,
        anchors=anchors,
        placement=Placement.model_validate({"device": device or "auto", "dtype": dtype or "auto"}),
        command=_command(sys.argv),
    )
    found = qualify_file(
        request,
        workspace=workspace_or_default(workspace),
        budget=parse_budget(budget),
        reporter=Reporter(quiet=quiet or as_json),
    )
    if as_json:
        print_json({"out": str(out), "certificate": found[1].model_dump(mode="json"), **found[0].to_row()})
    else:
        _show(*found, out)


def _command(arguments: list[str]) -> str:
    import shlex

    return shlex.join([Path(arguments[0]).name, *arguments[1:]])


def _show(qualification: Qualification, certificate: Certificate, out: Path) -> None:
    from strop.judging.qualifying.qualification_report import shown, table_rows
    from strop.judging.qualifying.rated import RATINGS

    data = certificate.data
    print_table(f"{data.rows:,} pairs, {data.groups:,} groups", table_rows(qualification.measured.slices))
    rows = [
        {
            "rule": ruling.rule.text,
            "measured": shown(ruling.figure),
            "outcome": ruling.outcome,
            "needs": "-" if ruling.pairs_needed is None else f"n={ruling.pairs_needed:,}",
        }
        for ruling in qualification.verdict.rulings
    ]
    print_table(f"thresholds {certificate.thresholds.name}", rows)
    others = ("accuracy with failures as wrong", "accuracy with failures as right", "ties", "first-position lean")
    rated = [name for name in qualification.measured.figures if name.startswith(RATINGS)]
    for name in (*others, *rated):
        typer.echo(f"{name}: {shown(qualification.measured.figures[name])}")
    for reason, count in data.left_out.items():
        typer.echo(f"{count:,} rows left out: {reason}")
    for remark in qualification.remarks:
        typer.echo(f"- {remark}")
    typer.echo(f"{qualification.judge}: {qualification.verdict.text}")
    typer.echo(f"written: {out}")
