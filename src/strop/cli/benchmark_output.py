"""How ``strop benchmark`` shows what it found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from strop.cli.output import plain, print_json, print_table

if TYPE_CHECKING:
    from strop.evaluation.benchmarks.comparison import Compared
    from strop.evaluation.benchmarks.running import BenchmarkReport
    from strop.evaluation.benchmarks.scores import PartScores, TaskScores
    from strop.evaluation.benchmarks.swaps import SwapDifference
    from strop.evaluation.statistics import Interval


def show_report(report: BenchmarkReport, *, out: Path | None, as_json: bool) -> None:
    """Print a table a model, then what a reader of it must know, then the comparisons."""
    from strop.evaluation.benchmarks.running import MODES

    if as_json:
        print_json(plain(report.to_row()))
        return
    for task in report.tasks:
        if task.duplicates:
            typer.echo(f"{task.name}: {task.duplicates:,} repeated rows left out, {len(task.items):,} items asked")
    for answers in report.answers:
        scores = report.scores[answers.model]
        rows = [row for name, of in scores.items() for row in _lines(name, of)]
        print_table(f"{answers.model}: {MODES[report.asked.mode]}", rows)
        for name, of in scores.items():
            for finding in of.findings():
                typer.echo(f"- {name}: {finding}")
        for swap in answers.swaps:
            typer.echo(f"- {swapped(swap)}")
    for compared in report.comparisons:
        typer.echo(f"- {compared.finding()}")
    if out is not None:
        typer.echo(f"written: {out}")


def show_forgetting(comparisons: list[Compared], *, as_json: bool) -> None:
    """Print what was forgotten, task by task."""
    if as_json:
        print_json(plain([compared.to_row() for compared in comparisons]))
        return
    for compared in comparisons:
        typer.echo(f"- {compared.finding()}")


def swapped(swap: SwapDifference) -> str:
    """Say in one sentence what exchanging the patient's description did."""
    told = f"{swap.task}, {swap.swap} exchanged in {swap.items:,} items"
    if swap.changed is None or swap.accuracy is None:
        return f"{told}: nothing to compare"
    difference = swap.accuracy.difference
    return (
        f"{told}: {_share(swap.changed)} of the answers change; accuracy {difference.estimate:+.1%}"
        f" ({difference.low:+.1%} to {difference.high:+.1%})"
    )


def _lines(name: str, scores: TaskScores) -> Iterator[dict[str, Any]]:
    """Yield the row of a task and those of its parts."""
    yield {
        "task": name,
        "n": scores.items - scores.failed,
        "accuracy": "-" if scores.accuracy is None else f"{scores.accuracy.estimate:.2%}",
        "95 % interval": "-" if scores.accuracy is None else _ends(scores.accuracy),
        "macro-F1": "-" if scores.macro_f1 is None else f"{scores.macro_f1:.3f}",
        "best constant": "-" if scores.constant is None else f"{scores.majority}: {scores.constant:.2%}",
        "unparsed": "-" if scores.unparsed is None else f"{scores.unparsed:.1%}",
        "empty": "-" if scores.empty is None else f"{scores.empty:.1%}",
        "answers": ", ".join(f"{label} {count}" for label, count in scores.predicted.items()),
    }
    for part, of in scores.parts.items():
        yield _part_line(part, of)


def _part_line(part: str, of: PartScores) -> dict[str, Any]:
    return {
        "task": f"  {part or 'other'}",
        "n": of.n,
        "accuracy": f"{of.accuracy.estimate:.2%}",
        "95 % interval": _ends(of.accuracy),
        "macro-F1": "",
        "best constant": f"{of.majority}: {of.constant:.2%}",
        "unparsed": "",
        "empty": "",
        "answers": "",
    }


def _ends(interval: Interval) -> str:
    return f"{interval.low:.1%} to {interval.high:.1%}"


def _share(interval: Interval) -> str:
    return f"{interval.estimate:.1%} ({_ends(interval)})"
