"""What ``strop judge rate`` and ``compare`` share: their options, and how they show what a file came to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strop.cli.options import parse_fields
from strop.cli.output import print_json, print_table

if TYPE_CHECKING:
    from strop.evaluation.statistics import Interval
    from strop.judging.judged_files import Judged, JudgeRequest
    from strop.judging.summary import ComparisonSummary, ExpectedSummary, RatingSummary

Judge = Annotated[str, typer.Option(metavar="M", help="builtin:NAME, a folder, http://HOST/v1#NAME, openai:NAME.")]
Out = Annotated[Path, typer.Option(metavar="F", help="Where rows go: .jsonl, .json or .parquet, also .gz.")]
Certificate = Annotated[Path | None, typer.Option(metavar="F", help="The judge's certificate.json.")]
MaxTokens = Annotated[int, typer.Option(min=1, help="Longest reply.")]
Again = Annotated[int, typer.Option(min=0, help="How many more times an unreadable reply is asked for.")]
Ceiling = Annotated[float, typer.Option(min=0, max=1, help="Stop above this share of unreadable replies.")]
Seed = Annotated[int, typer.Option(help="Of shuffled criteria and of intervals.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress on standard error.")]
UNQUALIFIED = (
    "WARNING: this judge is not qualified: nobody has shown a certificate of how far it agrees with people; "
    "make one with strop judge qualify and give it with --certificate"
)


def request_of(
    judge: str,
    rubric: str | None,
    out: Path,
    fields: list[str] | None,
    certificate: Path | None,
    max_tokens: int,
    again: int,
    ceiling: float,
    seed: int,
    device: str | None,
    dtype: str | None,
) -> JudgeRequest:
    """Put the options of the command line together."""
    from strop.judging.asking import Asking
    from strop.judging.judged_files import JudgeRequest
    from strop.judging.opening import has_learned, reply_form
    from strop.models.placement import Placement
    from strop.models.protocol import Sampling
    from strop.models.spec import parse_model

    form = "text" if has_learned(judge) else reply_form(parse_model(judge))
    return JudgeRequest(
        judge=judge,
        rubric=rubric,
        out=out,
        fields=parse_fields(fields),
        asking=Asking(Sampling(max_tokens=max_tokens), form=form, again=again, ceiling=ceiling),
        certificate=certificate,
        seed=seed,
        placement=Placement.model_validate({"device": device or "auto", "dtype": dtype or "auto"}),
    )


def show_judged(judged: Judged, out: Path, *, as_json: bool) -> None:
    """Print the figures with their intervals, the drift, and whether the judge is qualified."""
    from strop.judging.summary import ComparisonSummary, RatingSummary

    summary = judged.summary
    if as_json:
        print_json(_payload(judged, out))
        return
    typer.echo(f"{judged.judge}, revision {judged.revision[:12]}")
    if isinstance(summary, RatingSummary):
        _show_ratings(summary)
    elif isinstance(summary, ComparisonSummary):
        _show_comparisons(summary)
    else:
        _show_expected(summary)
    if judged.drift is not None:
        typer.echo(str(judged.drift))
    typer.echo(judged.standing.text if judged.standing.qualified else UNQUALIFIED)
    typer.echo(f"written: {out}")


def _payload(judged: Judged, out: Path) -> dict[str, Any]:
    return {
        "judge": judged.judge,
        "revision": judged.revision,
        "standing": judged.standing.to_row(),
        "summary": judged.summary.to_row(),
        "drift": None if judged.drift is None else str(judged.drift),
        "out": str(out),
    }


def _show_ratings(summary: RatingSummary) -> None:
    means = {**summary.means, "weighted mean": summary.mean}
    rows = [{"criterion": key, "mean": _amount(mean), "n": mean.n if mean else 0} for key, mean in means.items()]
    typer.echo(f"{summary.n:,} responses, {summary.complete:,} rated on every criterion")
    print_table("mean ratings with 95 % intervals", rows)
    typer.echo(f"fail a gate: {_share(summary.gate_failed)}; not known for {summary.gate_unknown:,}")
    typer.echo(f"ratings missing: {_share(summary.failures)}{_kinds(summary.failure_kinds)}")
    if summary.correlation is not None:
        typer.echo(
            f"mean rank correlation between criteria: {summary.correlation:.2f} (near 1: they are not told apart)"
        )


def _show_expected(summary: ExpectedSummary) -> None:
    rows = [
        {"criterion": key, "expected rating": _amount(mean), "mass": _share(summary.masses[key])}
        for key, mean in summary.means.items()
    ]
    typer.echo(f"{summary.n:,} responses; weighted mean {_amount(summary.mean)}")
    typer.echo("mass: what the numbers 1 to 5 hold of the next token's probability")
    print_table("mean expected ratings with 95 % intervals", rows)


def _show_comparisons(summary: ComparisonSummary) -> None:
    typer.echo(
        f"{summary.n:,} pairs: first better {summary.first:,}, second better {summary.second:,}, "
        f"ties {summary.ties:,}, no verdict {summary.failed:,}"
    )
    typer.echo(f"first wins, ties as halves: {_share(summary.first_share)}")
    typer.echo(f"orders disagree: {_share(summary.flips)}")
    typer.echo(f"the response shown first is preferred: {_share(summary.shown_first)} (50% is no lean)")
    typer.echo(f"replies without a verdict: {_share(summary.failures)}{_kinds(summary.failure_kinds)}")


def _share(interval: Interval | None) -> str:
    if interval is None:
        return "no data"
    return f"{interval.estimate:.1%} ({interval.low:.1%} to {interval.high:.1%}, n={interval.n:,})"


def _amount(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.estimate:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def _kinds(kinds: Mapping[str, int]) -> str:
    return "; " + ", ".join(f"{count:,} {kind}" for kind, count in kinds.items()) if kinds else ""
