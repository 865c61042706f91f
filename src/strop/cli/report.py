"""``strop report``: builds a run's page again from its report.json."""

from __future__ import annotations

import typer

from strop.cli.options import Workspace
from strop.cli.output import AsJson, print_json
from strop.cli.show import RunArgument, locate


def report_command(run: RunArgument, workspace: Workspace = None, as_json: AsJson = False) -> None:
    """Build a run's report.html again from its report.json; the last line is its path.

    Example:
        strop report weak_to_strong-demo
    """
    from strop.report import rebuild_html

    path = rebuild_html(locate(run, workspace).resolve())
    if as_json:
        print_json({"report": str(path)})
    else:
        typer.echo(path)
