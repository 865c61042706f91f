"""``strop safety evaluate``: recall and false alarms of the screen on labelled messages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from strop.cli.output import AsJson, plain, print_json, print_table
from strop.cli.safety_options import SecondOption, Timeout, open_second

if TYPE_CHECKING:
    from strop.evaluation.risk import RiskFigures
    from strop.evaluation.statistics import Interval


def evaluate_command(
    file: Annotated[Path | None, typer.Argument(help="Labelled messages; the shipped set by default.")] = None,
    part: Annotated[
        Literal["development", "test", "all"], typer.Option(help="Which part; settings are chosen on development only.")
    ] = "test",
    second: SecondOption = None,
    timeout: Timeout = 20.0,
    as_json: AsJson = False,
) -> None:
    """Measure the screen: recall at the two highest levels, by level and style, and false alarms, with intervals.

    Example:
        strop safety evaluate
    """
    from strop.evaluation.risk import MESSAGES, read_messages, risk_figures
    from strop.safety import screen
    from strop.safety.patterns import read_patterns

    path = file or MESSAGES
    messages = read_messages(path, part=part)
    opinion = open_second(second)
    found = [screen(message.conversation, second=opinion, timeout=timeout) for message in messages]
    figures = risk_figures(messages, [each.level for each in found])
    patterns = read_patterns()
    screened_by = f"{patterns.name} {patterns.version}" + (
        f", second opinion {opinion.revision[:12]}" if opinion else ""
    )
    failed = sum(bool(each.failures) for each in found)
    if as_json:
        print_json(
            {"file": str(path), "part": part, "screen": screened_by, "failures": failed, **plain(figures.to_row())}
        )
        return
    typer.echo(f"{path.name}, {part}: {figures.messages:,} messages, {figures.scenarios:,} scenarios; {screened_by}")
    if failed:
        typer.echo(f"WARNING: a part of the screen failed on {failed:,} messages, which raised their levels")
    _show(figures)


def _show(figures: RiskFigures) -> None:
    print_table(
        "95 % intervals over scenarios",
        [
            _row("two highest levels: found there", figures.recall_highest),
            _row("two highest levels: noticed at all", figures.noticed_highest),
            _row("any risk: noticed at all", figures.noticed),
            _row("level as labelled", figures.exact),
        ],
    )
    print_table("found at its level or higher", _rows(figures.recall_by_level, "level "))
    print_table("two highest levels found there, by style", _rows(figures.recall_by_style))
    print_table("no risk, but flagged", _rows(figures.false_alarms))
    print_table("no risk, but put at the two highest levels", _rows(figures.high_false_alarms))


def _rows(shares: Mapping[str, Interval | None], prefix: str = "") -> list[dict[str, Any]]:
    return [_row(prefix + name, share) for name, share in shares.items()]


def _row(name: str, share: Interval | None) -> dict[str, Any]:
    if share is None:
        return {"messages": name, "share": "no data", "from": "-", "to": "-", "n": 0}
    return {
        "messages": name,
        "share": f"{share.estimate:.1%}",
        "from": f"{share.low:.1%}",
        "to": f"{share.high:.1%}",
        "n": share.n,
    }
