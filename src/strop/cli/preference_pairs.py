"""``strop preference pairs``: rated responses in, preference pairs in every form out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strop.cli.options import Fields, parse_fields
from strop.cli.output import AsJson, print_json, print_table
from strop.errors import UserError

if TYPE_CHECKING:
    from strop.methods.preference.card import Provenance, Source
    from strop.methods.preference.pairing import Pairs


def pairs_command(
    rated: Annotated[Path, typer.Argument(metavar="RATED", help="Rows of id, speech and rated responses.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for pairs, forms, card and report.")],
    min_gap: Annotated[int, typer.Option(min=1, help="Least difference of the sums of ratings.")] = 7,
    gate: Annotated[
        bool, typer.Option("--gate/--no-gate", help="What fails safety is never chosen, nor is the less safe response.")
    ] = True,
    any_models: Annotated[bool, typer.Option("--any-models", help="A model may answer a speech twice.")] = False,
    expected: Annotated[bool, typer.Option("--expected", help="Ratings are expectations, with fractions.")] = False,
    development: Annotated[float, typer.Option(min=0, max=1, help="Share of speeches, of rows without split.")] = 0.1,
    test: Annotated[float, typer.Option(min=0, max=1, help="Share of speeches, of rows without split.")] = 0.1,
    fields: Fields = None,
    title: Annotated[str, typer.Option(help="Name of the data set on its card.")] = "Counselling preference pairs",
    judge: Annotated[str, typer.Option(help="Who rated, for the card.")] = "",
    rubric: Annotated[str, typer.Option(metavar="R", help="By which rubric, shipped or a file, for the card.")] = "",
    certificate: Annotated[
        Path | None, typer.Option(metavar="F", help="The judge's certificate.json, for the card.")
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option(metavar="NAME=LICENCE", help="Where texts come from; repeatable.")
    ] = None,
    licence: Annotated[str, typer.Option(help="Licence of the data set, as the hub names it: cc-by-nc-4.0.")] = "",
    seed: Annotated[int, typer.Option(help="Of splits, ties and intervals.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Make preference pairs of rated responses, for strop, TRL, LLaMA-Factory and OpenRLHF, with a data card.

    Training and development: every two responses to a speech whose sums differ by the least gap. Test: best against
    worst, and apart from these the close pairs. A missing or impossible rating never becomes a number.

    Example:
        strop preference pairs rated.jsonl --out pairs --rubric principles-v1 --source "counsel-chat=MIT"
    """
    from strop.judging.rubric import load_rubric
    from strop.methods.preference.card import Provenance, with_certificate
    from strop.methods.preference.files import PairRequest, pair_files
    from strop.methods.preference.pairing import PairSettings
    from strop.safety.gate import reply_gate

    label = load_rubric(rubric).label if rubric else ""
    told = Provenance(title, _command(), judge=judge, rubric=label, licence=licence, sources=_sources(source))
    request = PairRequest(
        rated,
        out,
        PairSettings(min_gap=min_gap, gate=gate, distinct_models=not any_models, expected=expected),
        told if certificate is None else with_certificate(told, certificate),
        development=development,
        test=test,
        fields=parse_fields(fields),
        gate=reply_gate if gate else None,
        seed=seed,
    )
    made = pair_files(request)
    if as_json:
        print_json({"out": str(out), **made.counts.to_row()})
    else:
        _show(made, request.provenance, out)


def _command() -> str:
    import shlex
    import sys

    return shlex.join(["strop", *sys.argv[1:]])


def _sources(given: list[str] | None) -> tuple[Source, ...]:
    from strop.methods.preference.card import Source

    sources = []
    for text in given or ():
        name, equals, licence = text.partition("=")
        if not (name and equals):
            raise UserError("--source says where texts come from", value=text, fix='write --source "counsel-chat=MIT"')
        sources.append(Source(name, licence))
    return tuple(sources)


def _show(made: Pairs, provenance: Provenance, out: Path) -> None:
    counts = made.counts.to_row()
    print_table(f"{len(made.rows):,} pairs", [{"split": split, **kinds} for split, kinds in counts["pairs"].items()])
    for part in ("speeches", "responses", "possible_pairs"):
        for name, value in counts[part].items():
            shown = ", ".join(f"{count:,} {key}" for key, count in value.items()) if isinstance(value, dict) else value
            typer.echo(f"{part.replace('_', ' ')}, {name.replace('_', ' ')}: {shown or 'none'}")
    if not provenance.certificate:
        typer.echo("The judge has no certificate: how far these labels agree with people is unknown; the card says so.")
    typer.echo(f"written: {out}")
