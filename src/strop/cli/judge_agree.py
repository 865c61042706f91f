"""``strop judge agree``: tables of ratings by judges beside the same table by people."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strop.cli.output import AsJson, Quiet, plain, print_json, print_table
from strop.errors import UserError

if TYPE_CHECKING:
    from strop.evaluation.statistics import Interval, NotEstimable
    from strop.judging.agreement import JudgeAgreement
    from strop.judging.rating_tables import RatingTable


def agree_command(
    human: Annotated[
        Path, typer.Option(metavar="F", help="People's ratings: CSV, JSONL or Parquet, a row a response.")
    ],
    judge: Annotated[list[str], typer.Option(metavar="NAME=F", help="A judge's ratings, same columns; repeatable.")],
    by: Annotated[str, typer.Option(metavar="COLUMN", help="Column of the conversation or prompt.")],
    item: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Column that tells the responses to it apart; repeatable."),
    ] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="A rated column; repeatable; every column of numbers by default."),
    ] = None,
    scale: Annotated[
        str | None, typer.Option(metavar="LOW:HIGH", help="Ratings outside count as missing; any number by default.")
    ] = None,
    gap: Annotated[
        float, typer.Option(metavar="G", help="Pairs count where people's mean scores differ by G or more.")
    ] = 0.5,
    resamples: Annotated[int, typer.Option(min=100, help="Bootstrap draws behind each interval.")] = 2_000,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Compare judges' ratings with people's: leniency, rank correlation, agreement on pairs, kappa, alpha.

    Each judge is compared on the responses that both tables rate; intervals resample conversations.

    Example:
        strop judge agree --human experts.csv --judge gpt=gpt.csv --judge small=small.csv --by conv --item model
    """
    import numpy as np

    from strop.judging.agreement import judge_agreement
    from strop.judging.rating_tables import read_ratings
    from strop.runs.progress import Reporter
    from strop.runs.seeds import derive_seed

    files = _named(judge)
    limits = _limits(scale)
    people = read_ratings(human, name="human", by=by, item=item or (), attributes=attribute or (), scale=limits)
    agreements, tables = [], [people]
    with Reporter(quiet=quiet).progress("judges", total=len(files)) as advance:
        for name, file in files.items():
            table = read_ratings(file, name=name, by=by, item=item or (), attributes=people.attributes, scale=limits)
            generator = np.random.default_rng(derive_seed(seed, "judge agree", name))
            agreements.append(judge_agreement(people, table, generator, gap=gap, resamples=resamples))
            tables.append(table)
            advance(1)
    if as_json:
        print_json(_document(human, agreements, tables, gap=gap, seed=seed, resamples=resamples))
        return
    _show(human, agreements, tables)


def _named(given: list[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for text in given:
        name, equals, file = text.partition("=")
        if not (name and equals and file):
            raise UserError("a judge is given as NAME=FILE", value=text, fix="--judge gpt=ratings_gpt.csv")
        if name in files:
            raise UserError("two judges of the same name", value=name)
        files[name] = Path(file)
    return files


def _limits(scale: str | None) -> tuple[float, float]:
    if scale is None:
        return (-math.inf, math.inf)
    low, colon, high = scale.partition(":")
    try:
        limits = (float(low), float(high))
    except ValueError:
        limits = (math.nan, math.nan)
    if not (colon and limits[0] < limits[1]):
        raise UserError("a scale is LOW:HIGH", value=scale, fix="--scale 1:5")
    return limits


def _show(human: Path, agreements: list[JudgeAgreement], tables: list[RatingTable]) -> None:
    typer.echo(f"judges beside {human}; 95 % intervals over conversations")
    print_table("over all attributes", [_judge_row(agreement) for agreement in agreements])
    print_table("by attribute", [row for agreement in agreements for row in _attribute_rows(agreement)])
    for line in _remarks(agreements, tables):
        typer.echo(line)


def _judge_row(agreement: JudgeAgreement) -> dict[str, Any]:
    pairs = agreement.pairs
    return {
        "judge": agreement.judge,
        "responses": agreement.responses,
        "lean": _cell(agreement.lean, signed=True),
        f"pairs {pairs.gap:g} apart": pairs.pairs,
        "judged alike": _cell(pairs.agreement),
        "judge's ties": _cell(pairs.ties),
    }


def _attribute_rows(agreement: JudgeAgreement) -> list[dict[str, Any]]:
    return [
        {
            "judge": agreement.judge,
            "attribute": each.attribute,
            "n": each.n,
            "lean": _cell(each.lean, signed=True),
            "Spearman": _cell(each.spearman),
            "kappa": _cell(each.kappa),
            "alpha": _cell(each.alpha),
        }
        for each in agreement.attributes
    ]


def _cell(outcome: Interval | NotEstimable, *, signed: bool = False) -> str:
    from strop.evaluation.statistics import NotEstimable

    if isinstance(outcome, NotEstimable):
        return f"none: {outcome.reason}"
    sign = "+" if signed else ""
    return f"{outcome.estimate:{sign}.3f} ({outcome.low:{sign}.2f}, {outcome.high:{sign}.2f})"


def _remarks(agreements: list[JudgeAgreement], tables: list[RatingTable]) -> list[str]:
    """Say what was left out, and where the two sides seem to use different scales."""
    lines = [
        f"{table.name}: {table.off_scale:,} ratings off the scale count as missing"
        for table in tables
        if table.off_scale
    ]
    for each in agreements:
        if each.only_human or each.only_judge:
            alone = f"{each.only_human:,} responses rated by people only, {each.only_judge:,} by the judge only"
            lines.append(f"{each.judge}: {alone}")
        if each.pairs.left_out:
            lines.append(f"{each.judge}: {each.pairs.left_out:,} responses without a score: an attribute is not rated")
        if each.ranges is not None and each.ranges[0] != each.ranges[1]:
            (low, high), (least, most) = each.ranges
            lines.append(f"{each.judge}: people rate {low:g} to {high:g}, the judge {least:g} to {most:g}; see --scale")
    lines.append("lean: judge minus people. kappa: quadratic weights. alpha: Krippendorff's, ordinal. ties count half.")
    return lines


def _document(
    human: Path,
    agreements: list[JudgeAgreement],
    tables: list[RatingTable],
    *,
    gap: float,
    seed: int,
    resamples: int,
) -> dict[str, Any]:
    return {
        "human": str(human),
        "gap": gap,
        "seed": seed,
        "resamples": resamples,
        "off_scale": {table.name: table.off_scale for table in tables},
        "judges": [plain(agreement) for agreement in agreements],
    }
