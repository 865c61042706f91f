"""``strop reward evaluate``: what a reward model is worth on labelled pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strop.cli.options import Device, Dtype, Fields, parse_fields
from strop.cli.output import AsJson, Quiet, print_json, print_table

if TYPE_CHECKING:
    from strop.evaluation.reward_pairs import RewardReport
    from strop.evaluation.rewards import RewardFigures


def evaluate_command(
    pairs: Annotated[
        Path, typer.Argument(metavar="PAIRS", help="Rows with prompt, and chosen and rejected, or better and worse.")
    ],
    reward: Annotated[
        str, typer.Option(metavar="R", help="A reward model's folder, http://HOST:PORT/get_reward, or words.")
    ],
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only the rows of this split; all by default.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="F", help="Also write the report here, as JSON.")] = None,
    fields: Fields = None,
    seed: Annotated[int, typer.Option(help="Of the orientation of pairs and of intervals.")] = 0,
    device: Device = None,
    dtype: Dtype = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure a reward model on labelled pairs: accuracy, AUC, calibration, by slice, beside "longer wins".

    Intervals resample groups. A model that gives both responses of every pair the same reward ends in an error.

    Example:
        strop reward evaluate pairs.jsonl --reward reward --split test
    """
    from strop.evaluation.reward_pairs import examine_pairs, read_labelled, refuse_equal_scores, write_report
    from strop.models.placement import Placement
    from strop.models.rewards import open_reward
    from strop.runs.progress import Reporter

    labelled = read_labelled(pairs, fields=parse_fields(fields), split=split)
    placement = Placement.model_validate({"device": device or "auto", "dtype": dtype or "auto"})
    model = open_reward(reward, placement)
    try:
        with Reporter(quiet=quiet or as_json).progress("scoring", total=2 * len(labelled)) as advance:
            report = examine_pairs(labelled, model, seed=seed, advance=advance)
    finally:
        model.close()
    if out is not None:
        write_report(report, out)
    if as_json:
        print_json(report.to_row())
    else:
        _show(report)
    refuse_equal_scores(report)


def _show(report: RewardReport) -> None:
    quality = report.quality
    rows = [_line("all pairs", quality.overall)]
    rows += [_line(f"{kind}: {name}", of) for kind, each in quality.slices.items() for name, of in each.items()]
    print_table(report.reward, rows)
    for line in report.findings():
        typer.echo(f"- {line}")


def _line(name: str, figures: RewardFigures) -> dict[str, Any]:
    from strop.evaluation.statistics import Interval

    accuracy, auc = figures.accuracy, figures.auc
    return {
        "pairs": name,
        "n": figures.pairs,
        "ties": figures.ties,
        "accuracy": f"{accuracy.estimate:.1%}",
        "95 % interval": f"{accuracy.low:.1%} to {accuracy.high:.1%}",
        "AUC": f"{auc.estimate:.3f}" if isinstance(auc, Interval) else "-",
        "ECE": f"{figures.ece.estimate:.3f}",
        "Brier": f"{figures.brier.estimate:.3f}",
    }
