"""``strop heads verify``: whether a converted model is what it should be, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strop.cli.output import AsJson, Quiet, plain, print_json, print_table

if TYPE_CHECKING:
    from strop.heads.verification import Check, Drop


def verify_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A converted model.")],
    original: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="What it was made from; else transformers' own model on the same weights."),
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Check a converted model in float32; exit code 1 where something does not hold.

    With every head on it is the dense model; caches, padding and batches change nothing; a fresh process loads the same
    model, and transformers alone refuses it; every token uses its number of heads; every backend that runs here equals
    the reference. Then the loss on a few texts, also with other shared heads: reported, not judged.

    Example:
        strop heads verify smollm2-moh --original builtin:smollm2-135m
    """
    from strop.cli.heads_convert import dense_folder
    from strop.heads.verification import verify
    from strop.heads.verification.verifying import STEPS
    from strop.models.batching import quiet_transformers
    from strop.runs.progress import Reporter

    dense = None if original is None else dense_folder(original)
    with Reporter(quiet=quiet or as_json).progress("verifying", STEPS) as advance, quiet_transformers():
        found = verify(folder, dense, advance=lambda _: advance(1))
    if as_json:
        print_json({**plain(found), "folder": str(folder), "passed": found.passed})
    else:
        print_table(f"{folder}: checks", [_row(check) for check in found.checks])
        print_table(
            f"loss before further training, nats a token ({found.texts})", [_loss(drop) for drop in found.drops]
        )
        failed = [check.name for check in found.checks if check.passed is False]
        typer.echo(f"{len(failed)} failed: {'; '.join(failed)}" if failed else "no check failed")
    if not found.passed:
        raise typer.Exit(1)


def _row(check: Check) -> dict[str, Any]:
    return {
        "check": check.name,
        "passed": {True: "yes", False: "NO", None: "not here"}[check.passed],
        "difference": "-" if check.difference is None else f"{check.difference:.1e}",
        "limit": "-" if check.limit is None else f"{check.limit:.0e}",
        "of": check.detail,
    }


def _loss(drop: Drop) -> dict[str, Any]:
    return {
        "shared heads": drop.shared,
        "first layer": drop.layout,
        "loss": "-" if drop.loss is None else f"{drop.loss:.3f}",
        "drop": "-" if drop.drop is None else f"{drop.drop:+.3f}",
    }
