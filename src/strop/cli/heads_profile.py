"""``strop heads profile``: what mixture-of-head attention gains on this machine, beside what it could gain at best."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strop.cli.output import AsJson, Quiet, plain, print_json, print_table
from strop.errors import UserError

if TYPE_CHECKING:
    from strop.heads.profiling import Measured, Profile

TITLES = {
    "layer": "an attention layer with its projections",
    "prefill": "a prompt, whole model",
    "train": "forward and backward of a training step",
    "decode": "one new token behind a cache",
}


def profile_command(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="A converted model.")],
    lengths: Annotated[str, typer.Option(metavar="N,N,...", help="Tokens of a row.")] = "512,2048,8192",
    batch: Annotated[int, typer.Option(min=1, help="Rows.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Each way runs once a round, in random order.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="With one, ratios are of processor time.")] = 1,
    steps: Annotated[
        str, typer.Option(metavar="A,B", help="Of layer, prefill, train and decode.")
    ] = "layer,prefill,train,decode",
    backends: Annotated[
        str, typer.Option(metavar="A,B", help="Ways to run the chosen heads; those of the device by default.")
    ] = "",
    device: Annotated[str, typer.Option(metavar="D", help="cpu, cuda, cuda:1.")] = "cpu",
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also draw it: report.html and report.json in this folder.")
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure a converted model against the dense model that it was made from, on this machine.

    Dense: the original model by torch's own kernel. Gated dense: all heads, then the gates, as the published code does.
    The others compute only the heads that a token uses. All take turns; a ratio compares two of one round, and the
    range is an interval of its median. The bound is the best ratio that the counted work allows; a kernel of our own
    that is faster than torch's with all heads on can pass it. Where the interval does not lie above 1 there is no gain.

    Example:
        strop heads profile smollm2-moh --lengths 512,2048 --steps layer,prefill,decode --report drawn
    """
    from strop.heads.profiling import profile

    found = profile(
        model,
        parse_lengths(lengths),
        batch=batch,
        rounds=rounds,
        threads=threads,
        steps=named(steps),
        backends=named(backends) or None,
        device=device,
        told=None if quiet or as_json else lambda line: typer.echo(line, err=True),
    )
    if report is not None:
        write_page(found, report)
    if as_json:
        print_json(plain(found))
        return
    show_profile(found)


def write_page(found: Profile, folder: Path) -> None:
    """Draw what was measured into a folder."""
    from strop.cli.heads_profile_report import profile_document
    from strop.report import write_report

    lengths = ",".join(str(length) for length in dict.fromkeys(each.length for each in found.measured))
    steps = ",".join(dict.fromkeys(each.step for each in found.measured))
    command = (
        f"strop heads profile {found.model} --lengths {lengths} --steps {steps} --batch {found.batch} "
        f"--rounds {found.rounds} --threads {found.threads} --device {found.device}"
    )
    folder.mkdir(parents=True, exist_ok=True)
    page = write_report(profile_document(found, titles=TITLES, conclusion=_verdict, command=command), folder)
    typer.echo(f"drawn in {page}", err=True)


def parse_lengths(text: str) -> list[int]:
    """Read ``512,2048``.

    Raises:
        UserError: A length is no whole number.
    """
    try:
        return [int(each.replace("_", "")) for each in text.split(",") if each.strip()]
    except ValueError as error:
        raise UserError("lengths are whole numbers", value=text, fix="for example --lengths 512,2048,8192") from error


def named(text: str) -> list[str]:
    """Split ``layer,decode``."""
    return [name.strip() for name in text.split(",") if name.strip()]


def show_profile(found: Profile) -> None:
    """Print a table for each step and a line for each length; ``gated`` is the ratio over gated dense attention."""
    time_of = "processor time" if found.clock == "cpu" else "time on the clock"
    typer.echo(
        f"{found.model}: {found.share:.1%} of the heads active, {found.router} router, batch {found.batch}; "
        f"{found.threads} thread{'s' * (found.threads > 1)}, {found.device}, torch {found.torch}; "
        f"{found.rounds} rounds, ratios of {time_of} over the dense model and over gated dense attention"
    )
    for step in dict.fromkeys(each.step for each in found.measured):
        measured = [each for each in found.measured if each.step == step]
        rows = [row for each in measured for row in _rows(each)]
        if rows:
            print_table(TITLES[step], rows)
        for each in measured:
            typer.echo(_verdict(each))


def _rows(measured: Measured) -> list[dict[str, Any]]:
    return [
        {
            "tokens": measured.length,
            "way": arm.name,
            "CPU ms": _milliseconds(arm.cpu_s),
            "wall ms": _milliseconds(arm.wall_s),
            "over dense": "-" if arm.over_dense is None else str(arm.over_dense),
            "gated": None if arm.over_gated is None else round(arm.over_gated.median, 2),
            "bound": f"{measured.bound:.2f}",
            "": "" if arm.name in ("dense", "gated dense") else arm.verdict,
        }
        for arm in measured.arms
    ]


def _milliseconds(seconds: float | None) -> float | None:
    milliseconds = None if seconds is None else 1e3 * seconds
    return milliseconds if milliseconds is None or milliseconds < 100 else round(milliseconds)


def _verdict(measured: Measured) -> str:
    where = f"{measured.step} at {measured.length:,} tokens"
    if measured.why_not is not None:
        return f"{where}: not run: {measured.why_not}"
    lines = [f"{where}: {arm.name} not run: {arm.why_not}" for arm in measured.arms if arm.why_not is not None]
    sparse = [arm for arm in measured.arms if arm.over_dense is not None and arm.name not in ("dense", "gated dense")]
    best = max(sparse, key=lambda arm: arm.over_dense.low if arm.over_dense else 0.0, default=None)
    if best is None or best.over_dense is None or not best.over_dense.is_gain:
        return "\n".join([*lines, f"{where}: no gain here; at best {measured.bound:.2f}"])
    return "\n".join([*lines, f"{where}: {best.name} is {best.over_dense} times faster than the dense model"])
