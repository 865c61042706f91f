"""``strop judge fit``: a small judge from a few hundred human pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strop.cli.options import Fields, parse_fields
from strop.cli.output import AsJson, Quiet, print_json, print_table

if TYPE_CHECKING:
    from strop.judging.fitting.fit_report import FitReport, SliceFigures


def fit_command(
    pairs: Annotated[Path, typer.Option(metavar="F", help="Human pairs: prompt, better, worse; optionally group.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the judge, its report and its learning curve.")],
    encoder: Annotated[str, typer.Option(help="builtin:minilm, or the folder of an encoder.")] = "builtin:minilm",
    extra: Annotated[
        list[Path] | None,
        typer.Option(metavar="F", help="Further human labels to learn from, pairs or rated responses; repeatable."),
    ] = None,
    across: Annotated[
        bool, typer.Option("--across", help="Match rated responses of different contexts too, where no pair is left.")
    ] = False,
    grid: Annotated[str, typer.Option(help="Settings to choose among: standard, plain or single.")] = "standard",
    name: Annotated[str, typer.Option(help="What to call the judge in reports.")] = "fitted",
    seed: Annotated[int, typer.Option(help="Of folds, draws and intervals.")] = 0,
    draws: Annotated[int, typer.Option(min=1, help="Draws of labels for each point of the learning curve.")] = 10,
    fields: Fields = None,
    extra_fields: Annotated[
        list[str] | None, typer.Option("--extra-fields", metavar="A=B", help="As --fields, for the files of --extra.")
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Fit a small judge to human pairs: frozen embeddings, logistic regression on differences, no language model.

    Settings are chosen by nested cross-validation by group, never on the folds that are reported. The report holds
    paired differences to every baseline and the learning curve: what 25, 50, 100, 200 labels buy.

    Example:
        strop judge fit --pairs pairs.jsonl --out judge
    """
    from strop.judging.fitting.fit_files import FitRequest, fit_files
    from strop.runs.progress import Reporter

    request = FitRequest(
        pairs,
        out,
        encoder=encoder,
        extra=tuple(extra or ()),
        fields=parse_fields(fields),
        extra_fields=parse_fields(extra_fields),
        across=across,
        grid=grid,
        name=name,
        seed=seed,
        draws=draws,
    )
    report = fit_files(request, reporter=Reporter(quiet=quiet))
    if as_json:
        print_json({"out": str(out), **report.to_row()})
    else:
        _show(report, out)


def _show(report: FitReport, out: Path) -> None:
    from strop.judging.fitting.fit_report import findings

    print_table(f"{report.pairs:,} pairs, out of fold", [_line(part) for part in report.slices if part.accuracy])
    chosen = "; ".join(dict.fromkeys(setting.shown() for setting in report.chosen))
    typer.echo(f"chosen in the folds: {chosen}")
    typer.echo(f"kept: {report.setting.shown()}")
    for file in report.extra:
        reasons = "".join(f", {count:,} left out: {reason}" for reason, count in file.left_out.items())
        typer.echo(f"{file.path}: {file.preferences:,} pairs from {file.rows:,} rows, {file.copies:,} copies{reasons}")
    if report.extra:
        typer.echo(f"extra pairs that no held-out row is linked with, fold by fold: {list(report.extra_used)}")
    for reason, count in report.left_out.items():
        typer.echo(f"{count:,} rows left out: {reason}")
    typer.echo(f"{report.texts:,} texts embedded, {report.divided:,} of them over the window, in parts")
    for line in findings(report):
        typer.echo(f"- {line}")
    typer.echo(f"written: {out}")


def _line(part: SliceFigures) -> dict[str, Any]:
    accuracy = part.accuracy
    assert accuracy is not None
    others = {name: f"{versus.baseline.estimate:.1%}" for name, versus in part.versus.items()}
    interval = f"{accuracy.low:.1%} to {accuracy.high:.1%}"
    return {
        "pairs": part.name,
        "n": accuracy.n,
        "groups": accuracy.groups,
        "judge": f"{accuracy.estimate:.1%}",
        "95 % interval": interval,
        **others,
    }
