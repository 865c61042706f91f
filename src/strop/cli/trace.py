"""``strop trace``: what a reported number was made from, back to the calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strop.cli.options import Workspace
from strop.cli.output import AsJson, print_json
from strop.cli.show import RunArgument, locate

if TYPE_CHECKING:
    from strop.runs.calls import StoredCall
    from strop.runs.lineage import Node

TEXT_SHOWN = 160


def trace_command(
    run: RunArgument,
    number: Annotated[str, typer.Argument(help="The name of a number in the run's report.")],
    calls: Annotated[int, typer.Option(min=0, help="How many calls of each stage to show.")] = 3,
    workspace: Workspace = None,
    as_json: AsJson = False,
) -> None:
    """Show what a number was made from: its artifact, the artifacts before it, and the model calls behind them.

    Example:
        strop trace first gap_recovered.final
    """
    from strop.runs.lineage import trace

    found = trace(locate(run, workspace), number, calls=calls)
    if as_json:
        print_json(asdict(found))
        return
    place = f", file {found.file}" if found.file else ""
    typer.echo(f"{found.name} = {found.value}{place}")
    for line in _lines(found.root, "  ", shown=set()):
        typer.echo(line)


def _lines(node: Node, indent: str, *, shown: set[tuple[str, str]]) -> Iterator[str]:
    lineage = node.lineage
    identity = (lineage.stage, lineage.digest)
    where = node.folder.name if node.folder else f"{lineage.stage} (not in the run any more)"
    if identity in shown:
        # The same artifact often feeds several stages; its own inputs are told once.
        yield f"{indent}{where} (see above)"
        return
    shown.add(identity)
    drawn = "" if lineage.seed is None else f", seed {lineage.seed}"
    yield f"{indent}{where}  sha256 {lineage.digest[:12]}  by {lineage.function}{drawn}"
    if node.calls:
        yield f"{indent}  {node.calls:,} calls, {node.tokens:,} tokens"
        for call in node.first_calls:
            yield from _call(call, indent + "    ")
    for child in node.inputs:
        yield from _lines(child, indent + "  ", shown=shown)


def _call(call: StoredCall, indent: str) -> Iterator[str]:
    yield f"{indent}{call.key[:12]}  {call.model}, sample {call.sample}"
    yield f"{indent}  asked:    {_short(call.request.get('prompt', call.request))}"
    yield f"{indent}  answered: {_short(call.text)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= TEXT_SHOWN else text[:TEXT_SHOWN] + "..."
