"""``strop annotate report``: how far experts agree with each other and with the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strop.cli.annotate_export import Annotations, Pairs
from strop.cli.output import AsJson, plain, print_json, print_table

if TYPE_CHECKING:
    from strop.evaluation.statistics import Interval, NotEstimable
    from strop.web.agreement_report import Agreement, AgreementReport, Disagreement


def report_command(
    annotations: Annotations,
    pairs: Pairs = None,
    listed: Annotated[int, typer.Option(min=0, metavar="N", help="Most disagreements to list; --json has all.")] = 20,
    resamples: Annotated[int, typer.Option(min=100, help="Bootstrap draws behind each interval.")] = 2_000,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Agreement of experts with each other and with the labels: percent, Cohen's kappa, Krippendorff's alpha.

    Intervals resample groups of pairs. The pairs on which verdicts differ are listed, with the experts' notes.

    Example:
        strop annotate report pairs.jsonl.annotations.sqlite
    """
    from strop.web.agreement_report import agreement_report
    from strop.web.annotations import open_annotations
    from strop.web.collecting import collect, pairs_behind

    with open_annotations(annotations) as file:
        collected = collect(file, pairs_behind(file, pairs))
        source = file.meta["pairs_file"]
    report = agreement_report(collected, seed=seed, resamples=resamples)
    if as_json:
        print_json({"annotations": str(annotations), "seed": seed, "resamples": resamples, **plain(report)})
        return
    _show(report, source=source, listed=listed)


def _show(report: AgreementReport, *, source: str, listed: int) -> None:
    typer.echo(f"{report.pairs:,} pairs; 95 % intervals over groups")
    print_table("annotators", [_annotator_row(each) for each in report.annotators])
    if report.between:
        print_table("between annotators", [_agreement_row(each) for each in report.between])
    if report.alpha_of_all is not None:
        typer.echo(f"alpha over all annotators: {_cell(report.alpha_of_all)}")
    if report.with_label:
        print_table("with the label", [_agreement_row(each) for each in report.with_label])
    if not report.labels:
        typer.echo(f"not compared with the labels: the pairs are no longer at {source}; see --pairs")
    if report.principles:
        rows = [{"principle": each.principle, **_agreement_row(each.agreement)} for each in report.principles]
        print_table("between annotators, by principle", rows)
    _show_disagreements(report.disagreements, [each.name for each in report.annotators], listed)
    typer.echo("left out: one of the two could not judge, or beside a label found both equally good.")
    typer.echo("on the left: share of verdicts for the response shown on the left; 0.5 is no lean.")


def _show_disagreements(found: Sequence[Disagreement], names: Sequence[str], listed: int) -> None:
    apart = sum(each.between_annotators for each in found)
    other = sum(bool(each.from_label) for each in found)
    typer.echo(f"annotators differ on {apart:,} pairs; somebody differs from the label on {other:,}")
    shown = found[:listed]
    if shown:
        print_table("disagreements", [_disagreement_row(each, names) for each in shown])
    if len(found) > len(shown):
        typer.echo(f"{len(found) - len(shown):,} more: --listed N, or --json")


def _annotator_row(each: Any) -> dict[str, Any]:
    return {
        "annotator": each.name,
        "marked": each.marked,
        "unmarked": each.unmarked,
        "equally good": each.ties,
        "cannot judge": each.cannot,
        "notes": each.notes,
        "on the left": _cell(each.shown_left_preferred),
        "median s": each.seconds,
    }


def _agreement_row(each: Agreement) -> dict[str, Any]:
    return {
        "": f"{each.first}, {each.second}",
        "n": each.n,
        "left out": each.left_out,
        "agree": _cell(each.share),
        "kappa": _cell(each.kappa),
        "alpha": _cell(each.alpha),
    }


def _disagreement_row(each: Disagreement, names: Sequence[str]) -> dict[str, Any]:
    notes = "; ".join(f"{name}: {_one_line(note)}" for name, note in each.notes.items())
    return {
        "pair": each.key,
        **{name: _said(each, name) for name in names},
        "notes": notes,
    }


def _one_line(note: str) -> str:
    """Return a note without line ends and without what a terminal would take for commands."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in note).split())


def _said(each: Disagreement, name: str) -> str:
    verdict = each.verdicts.get(name)
    if verdict is None:
        return "-"
    words = {"tie": "equally good", "cannot": "cannot judge"}
    if verdict in words:
        return words[verdict]
    if each.label is None:
        return f"the {verdict}"
    return "as the label" if verdict == each.label else "the other"


def _cell(outcome: Interval | NotEstimable) -> str:
    from strop.evaluation.statistics import NotEstimable

    if isinstance(outcome, NotEstimable):
        return f"none: {outcome.reason}"
    return f"{outcome.estimate:.3f} ({outcome.low:.2f}, {outcome.high:.2f})"
