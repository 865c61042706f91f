"""``strop heads calibrate``: which way of attending is fastest on this machine, kept for `auto`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from strop.cli.heads_profile import parse_lengths
from strop.cli.output import AsJson, Quiet, plain, print_json, print_table

if TYPE_CHECKING:
    from strop.heads.choosing import Cell, Table

DENSE = "dense, then gates"


def calibrate_command(
    lengths: Annotated[
        str, typer.Option(metavar="N,N,...", help="Tokens of a row; sizes between them take the nearest.")
    ] = "",
    threads: Annotated[int, typer.Option(min=1, help="Of torch: each number has a table of its own.")] = 1,
    seconds: Annotated[float, typer.Option(min=0.01, help="For each way of each size, about.")] = 0.4,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Time every way to attend with some of the heads on this machine, and let `auto` choose by that from now on.

    Without it `auto` goes by a table that came with strop, measured on another machine. Sixteen heads of width 64, with
    a KV head each and in groups of four, a quarter to seven eighths of them chosen; attention alone and layers with
    their projections, forward, training steps and decoding. Takes ten minutes or so with one thread.

    Example:
        strop heads calibrate --lengths 128,512,2048
    """
    import torch

    from strop.heads.calibration import PASSES, SHARES, TOKENS, calibrate, sizes
    from strop.heads.choosing import table_path
    from strop.runs.progress import Reporter

    tokens = parse_lengths(lengths) or list(TOKENS)
    count = sum(1 for _ in sizes(tokens, SHARES, PASSES))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with Reporter(quiet=quiet or as_json).progress("calibrating", count) as advance:
            table = calibrate(tokens=tokens, seconds=seconds, tell=lambda _: advance(1))
        path = table_path(threads)
    finally:
        torch.set_num_threads(before)
    if as_json:
        print_json({**plain(table), "file": str(path)})
        return
    show_table(table)
    typer.echo(f"kept in {path}; `auto` goes by it with {threads} thread{'s' * (threads > 1)}")


def show_table(table: Table) -> None:
    """Print a table for each pass: how many times faster than dense attention with gates."""
    typer.echo(f"{table.machine}: times faster than dense attention with gates")
    for passes in dict.fromkeys(cell.size.passes for cell in table.cells):
        print_table(passes, [_row(cell) for cell in table.cells if cell.size.passes == passes])


def _row(cell: Cell) -> dict[str, Any]:
    from strop.heads.choosing import LEAST_GAIN

    best, gain = max(cell.gain.items(), key=lambda item: item[1], default=(DENSE, 1.0))
    return {
        "KV heads": "grouped" if cell.size.grouped else "one a head",
        "tokens": cell.size.tokens,
        "heads chosen": f"{cell.size.share:.1%}",
        **cell.gain,
        "chosen": best if gain >= LEAST_GAIN else DENSE,
    }
