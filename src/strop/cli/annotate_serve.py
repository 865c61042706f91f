"""``strop annotate serve``: the page on which experts label pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strop.cli.options import Fields, parse_fields
from strop.cli.output import AsJson, print_json

if TYPE_CHECKING:
    from strop.judging.pairs import PairFile
    from strop.web.annotations import AnnotationFile

EXPOSED = "WARNING: other machines can reach this page, unencrypted; whoever has an address can mark in its name"


def serve_command(
    pairs: Annotated[
        Path, typer.Argument(metavar="PAIRS", help="Rows with prompt, and chosen and rejected, or better and worse.")
    ],
    annotators: Annotated[
        str | None, typer.Option(metavar="A,B", help="Names, by commas; each gets an address of its own; `expert`.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="F", help="Where marks are kept; PAIRS.annotations.sqlite by default.")
    ] = None,
    question: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What is asked; `Which response is better?` by default.")
    ] = None,
    ties: Annotated[
        bool | None, typer.Option("--ties/--no-ties", help="Whether `equally good` is offered; not by default.")
    ] = None,
    rubric: Annotated[
        str | None, typer.Option(metavar="R", help="Offer marks on each criterion: principles-v1, or a file.")
    ] = None,
    fields: Fields = None,
    host: Annotated[str, typer.Option(metavar="H", help="Address to listen on; this machine only by default.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8765,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Also answer to this name, for a proxy; repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Open a page on which experts say which response of a pair is better, the label hidden; stop it with Ctrl-C.

    Sides and order are drawn for each annotator. Every click is on the disk at once; the same command goes on later,
    with the same addresses. Ties, question and rubric are kept in the file of marks.

    Example:
        strop annotate pairs.jsonl --annotators anna,ben --rubric principles-v1
    """
    from strop.judging.pairs import read_pair_file
    from strop.judging.rubric import load_rubric
    from strop.web.annotations import annotations_for
    from strop.web.guard import is_loopback
    from strop.web.serving import add_annotators, bind, default_path

    renames = parse_fields(fields)
    found = read_pair_file(pairs, renames)
    loaded = None if rubric is None else load_rubric(rubric)
    path = out or default_path(pairs)
    with annotations_for(found.pairs, pairs, path, fields=renames, question=question, ties=ties, rubric=loaded) as file:
        add_annotators(file, annotators)
        bound = bind(found.pairs, file, host=host, port=port, elsewhere=allow_host or ())
        if not is_loopback(host):
            typer.echo(EXPOSED, err=True)
        _say(found, file, bound.base, as_json=as_json)
        bound.run()
        if not as_json:
            _say_progress(file)


def _say(found: PairFile, file: AnnotationFile, base: str, *, as_json: bool) -> None:
    addresses = {name: f"{base}#{token}" for name, token in file.tokens().items()}
    if as_json:
        counts = {"pairs": len(found.pairs), "left_out": found.left_out}
        print_json({**counts, "annotations": str(file.path), "addresses": addresses})
        return
    for reason, count in found.left_out.items():
        typer.echo(f"left out: {count:,} rows ({reason})")
    typer.echo(f"{len(found.pairs):,} pairs; marks are kept in {file.path}")
    for name, address in addresses.items():
        typer.echo(f"{name}: {address}")
    typer.echo("Ctrl-C stops the page; the same command goes on")


def _say_progress(file: AnnotationFile) -> None:
    from strop.web.serving import progress

    total = len(file.groups())
    for name, done in progress(file).items():
        typer.echo(f"{name}: {done:,} of {total:,} pairs marked")
