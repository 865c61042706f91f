"""``strop reward compare``: reward models on human pairs, beside what needs no model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from strop.cli.options import Device, Fields, parse_fields
from strop.cli.output import AsJson, Quiet, print_json, print_table


def compare_command(
    pairs: Annotated[Path, typer.Option(metavar="F", help="Human pairs: prompt, better, worse; optionally group.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the report, the curves and the tuned folds.")],
    arms: Annotated[
        Literal["all", "frozen", "tuned"],
        typer.Option(help="frozen: minutes; tuned: one training a fold, an hour or more; all: both."),
    ] = "all",
    model: Annotated[
        str, typer.Option(metavar="M", help="The language model that is tuned, and frozen.")
    ] = "builtin:smollm2-135m",
    encoder: Annotated[str, typer.Option(metavar="M", help="The frozen encoder.")] = "builtin:minilm",
    settings: Annotated[
        Path | None, typer.Option(metavar="F", help="Grids and training of your own; the shipped file by default.")
    ] = None,
    draws: Annotated[int, typer.Option(min=0, help="Draws of labels for each point of the curves; 0: none.")] = 10,
    seed: Annotated[int, typer.Option(help="Of folds, trainings, draws and intervals.")] = 0,
    fields: Fields = None,
    device: Device = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Compare reward models on human pairs, out of fold, groups kept whole; one table, paired intervals, a verdict.

    A tuned reward model, frozen features with nested choice, and `judge fit`, beside longer-wins, surface features and
    TF-IDF. Folds that are done are kept: the same command goes on after a stop.

    Example:
        strop reward compare --pairs pairs.jsonl --out compared --arms frozen
    """
    from strop.runs.progress import Reporter
    from strop.training.human_pairs.comparison import ComparisonRequest, compare_rewards
    from strop.training.human_pairs.settings import COMPARISON_FILE

    request = ComparisonRequest(
        pairs,
        out,
        arms=arms,
        fields=parse_fields(fields),
        model=model,
        encoder=encoder,
        settings=settings or COMPARISON_FILE,
        seed=seed,
        draws=draws,
        device=device or "auto",
    )
    report = compare_rewards(request, reporter=Reporter(quiet=quiet))
    if as_json:
        print_json({"out": str(out), **report.to_row()})
        return
    print_table(f"{report.pairs:,} pairs in {report.groups:,} groups, out of fold", report.table())
    for line in report.findings():
        typer.echo(f"- {line}")
    typer.echo(f"written: {out}")
