"""``strop demo``: every shipped demo recipe, offline, with real small models."""

from __future__ import annotations

import typer

from strop.cli.options import Device, Dtype, Workspace, load, workspace_or_default
from strop.cli.output import AsJson, print_json
from strop.cli.run import execute


def demo_command(
    workspace: Workspace = None, device: Device = None, dtype: Dtype = None, as_json: AsJson = False
) -> None:
    """Run every shipped demo on this machine, offline, in minutes; the last line is the path of a report.

    The models are real and small, and so is what they learn: one seed and a few hundred questions show the machine at
    work, not a result. A second call shows the reports of the first.

    Example:
        strop demo
    """
    from strop.runs.configuration import shipped_recipes

    names = [name for name in shipped_recipes() if name.endswith("/demo")]
    finished = {}
    for name in names:
        loaded = load(name, None, device=device, dtype=dtype)
        finished[name] = execute(loaded, name=None, workspace=workspace_or_default(workspace), quiet=as_json)
    if as_json:
        print_json(
            [{"recipe": name, "run": str(each.run), "report": str(each.report)} for name, each in finished.items()]
        )
        return
    for each in finished.values():
        typer.echo(each.report)
