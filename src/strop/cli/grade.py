"""``strop grade``: grade a file of reasoning answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from strop.cli.options import Fields, parse_fields
from strop.cli.output import AsJson, Quiet, print_json, print_table

if TYPE_CHECKING:
    from strop.evaluation.grading import GradingSummary

TOTAL = "all"
MOST_REASONS = 5


def grade_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Responses: JSONL, JSON or Parquet, also .gz.")],
    key: Annotated[
        str,
        typer.Option(metavar="KEY", help="What introduces a final answer: gsm8k (####), math (The answer is:), TEXT."),
    ],
    mode: Annotated[
        Literal["compat", "strict", "lenient"],
        typer.Option(help="compat: the published rules; strict: equal values, key required; lenient: key optional."),
    ] = "strict",
    out: Annotated[Path | None, typer.Option(metavar="F", help="File for id, pred, gold, result.")] = None,
    fields: Fields = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Grade reasoning answers: strict, lenient or as published.

    FILE holds id, response (or a list, responses) and optionally gold, one object a row. OpenAI's nested example
    solutions are graded for all their models at once.

    Example:
        strop grade results.jsonl.gz --key gsm8k --mode compat --out graded.jsonl
    """
    from strop.evaluation.answer_files import read_responses
    from strop.evaluation.answers import parse_key
    from strop.evaluation.grading import GradingSummary, grade
    from strop.records.tables import iter_table, write_table
    from strop.runs.progress import Reporter

    answer_key = parse_key(key)
    summaries: dict[str, GradingSummary] = {}
    responses = read_responses(iter_table(file), parse_fields(fields))

    def graded_rows() -> Iterator[dict[str, Any]]:
        with Reporter(quiet=quiet).progress("grading") as advance:
            for response, graded in grade(responses, answer_key, mode):
                for name in (TOTAL,) if response.model is None else (TOTAL, response.model):
                    summaries.setdefault(name, GradingSummary()).add(response, graded)
                advance(1)
                yield graded.to_row()

    if out is None:
        for _ in graded_rows():
            pass
    else:
        write_table(out, graded_rows())
    summaries.setdefault(TOTAL, GradingSummary())
    _show(summaries, file=file, key=answer_key.text, mode=mode, out=out, as_json=as_json)


def _show(
    summaries: dict[str, GradingSummary], *, file: Path, key: str, mode: str, out: Path | None, as_json: bool
) -> None:
    total = summaries.pop(TOTAL)
    settings = {"file": str(file), "key": key, "mode": mode, "out": None if out is None else str(out)}
    if as_json:
        models = {"models": {name: summary.to_row() for name, summary in summaries.items()}} if summaries else {}
        print_json({**settings, **total.to_row(), **models})
        return
    typer.echo(f"{file}: {mode} grades, key {key!r}")
    if summaries:
        print_table("by model", [_line(name, summary) for name, summary in summaries.items()])
    for line in _lines(total):
        typer.echo(line)
    if out is not None:
        typer.echo(f"written: {out}")


def _line(name: str, summary: GradingSummary) -> dict[str, Any]:
    accuracy = summary.accuracy()
    interval = "-" if accuracy is None else f"{accuracy.low:.1%} to {accuracy.high:.1%}"
    return {
        "model": name,
        "n": summary.n,
        "correct": summary.correct,
        "accuracy": "-" if accuracy is None else f"{accuracy.estimate:.1%}",
        "95 % interval": interval,
    }


def _lines(summary: GradingSummary) -> Iterator[str]:
    """Say what a summary holds, one fact a line, without what did not occur."""
    yield f"{summary.n:,} responses, {summary.graded:,} graded, {summary.correct:,} correct"
    accuracy = summary.accuracy()
    if accuracy is not None:
        yield f"accuracy {accuracy.estimate:.2%}, 95 % interval {accuracy.low:.2%} to {accuracy.high:.2%}"
    yield f"{summary.no_answer:,} without a final answer"
    if summary.without_gold:
        yield f"{summary.without_gold:,} without gold: extracted only"
    if summary.not_graded:
        yield f"{summary.not_graded:,} not graded: neither right nor wrong"
    for reason, count in sorted(summary.reasons.items(), key=lambda item: -item[1])[:MOST_REASONS]:
        yield f"  {count:,} because: {reason}"
    for label, (equal, stated) in (("pred", summary.published_preds), ("result", summary.published_results)):
        if stated:
            yield f"the file's own {label!r} equals ours in {equal:,} of {stated:,}"
