"""``strop export``: what a run made, out of its folder, with cards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from strop.cli.options import Workspace
from strop.cli.output import AsJson, Quiet, print_json
from strop.cli.show import RunArgument, locate

if TYPE_CHECKING:
    from strop.report.exporting import ExportedProduct, ExportOptions


def export_command(
    run: RunArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write into: one folder a product.")],
    product: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="What to export; the run's final products by default. Repeatable."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Export everything that the run made.")] = False,
    gguf: Annotated[
        Literal["f16", "f32", "bf16", "q8_0", "none"] | None,
        typer.Option(help="Precision of the GGUF file, for llama.cpp; f16 where the architecture allows it."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="llama.cpp must write what the safetensors write; needs xllamacpp.")
    ] = False,
    licence: Annotated[str, typer.Option("--license", metavar="ID", help="Licence for the cards, as apache-2.0.")] = "",
    dataset: Annotated[
        list[str] | None, typer.Option(metavar="ORG/NAME", help="Data set that a model card names. Repeatable.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace folders that are in the way.")] = False,
    workspace: Workspace = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Export what a run made: safetensors, adapter, GGUF, data for TRL, LLaMA-Factory, OpenRLHF, OpenAI; with cards.

    Every folder is written whole or not at all, and checked; the same command continues. export.json lists all files
    with their hashes.

    Example:
        strop export weak_to_strong-demo --out exported --license apache-2.0
    """
    from strop.report.exporting import export_run
    from strop.runs.progress import Reporter

    made = export_run(
        locate(run, workspace),
        out,
        names=product or (),
        everything=everything,
        options=_options(gguf, licence=licence, datasets=dataset, check=check),
        overwrite=overwrite,
        say=Reporter(quiet=quiet or as_json).say,
    )
    if as_json:
        print_json({"out": str(out.resolve()), "products": [_told(each) for each in made]})
        return
    for each in made:
        typer.echo(f"{each.folder}{' (was there)' if each.done_before else ''}")


def _options(gguf: str | None, *, licence: str, datasets: list[str] | None, check: bool) -> ExportOptions:
    from strop.report.exporting import ExportOptions

    return ExportOptions(
        gguf=None if gguf == "none" else gguf or "f16",  # type: ignore[arg-type]  # typer has checked the words
        gguf_required=gguf not in (None, "none"),
        check=check,
        licence=licence,
        datasets=tuple(datasets or ()),
    )


def _told(each: ExportedProduct) -> dict[str, object]:
    return {"name": each.name, "folder": str(each.folder), "done_before": each.done_before, **each.record}
