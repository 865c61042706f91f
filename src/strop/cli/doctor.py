"""``strop doctor``: two-minute checks of the user's own models and data before a long run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from strop.cli.options import Device, Dtype, RecipeArgument, Sets, load
from strop.cli.output import AsJson, print_json
from strop.errors import UserError

if TYPE_CHECKING:
    from strop.training import Finding

MARKS = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}


def doctor_command(
    recipe: RecipeArgument, set_: Sets = None, device: Device = None, dtype: Dtype = None, as_json: AsJson = False
) -> None:
    """Check the models and the data of a recipe: end tokens, masks, truncation, templates, padding, step-0 losses.

    Ends with exit code 2 when a check fails that would stop the run.

    Example:
        strop doctor weak_to_strong/demo
    """
    from strop.runs.configuration import import_object

    loaded = load(recipe, set_, device=device, dtype=dtype)
    # Every method's package has a module `doctor` with this function.
    examine = import_object(f"strop.methods.{loaded.method}.doctor:examine_recipe")
    findings: list[Finding] = list(examine(loaded.config))
    if as_json:
        print_json({"recipe": loaded.name, "findings": [_as_mapping(finding) for finding in findings]})
    else:
        for finding in findings:
            _show(finding)
    failed = [finding.name for finding in findings if finding.status == "fail"]
    if failed:
        raise UserError(
            f"{len(failed)} of {len(findings)} checks failed: {', '.join(failed)}", fix="see each one above"
        )


def _as_mapping(finding: Finding) -> dict[str, str]:
    return {key: getattr(finding, key) for key in ("name", "status", "value", "why", "fix")}


def _show(finding: Finding) -> None:
    typer.echo(f"{MARKS[finding.status]}  {finding.name}: {finding.value}")
    if finding.status != "ok":
        typer.echo(f"        why: {finding.why}")
        typer.echo(f"        fix: {finding.fix}")
