"""Which backend is fastest for a call: a table of measured ratios, a pure function over it, and its measurement.

A cell holds, for one size, how many times faster than dense attention with gates each backend was, everything that it
needs included (plan, gathering and scattering of rows). A call is judged by the nearest cell that promises less: fewer
tokens, more active heads. Where no backend is clearly faster, or all heads are active, dense attention runs.

The shipped table was measured on one machine; `calibrate` measures the user's and keeps the result in the user's cache.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from importlib.resources import files
from math import isqrt, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from strop.heads.plan import RoutingPlan

VERSION = 1
Passes = Literal["forward", "training", "decode", "layer forward", "layer training"]
"""Of attention, with all heads in and out; of one decoded token; of a layer with its projections."""
LEAST_GAIN = 1.05
"""A backend is chosen where its cell shows at least this ratio: less is within what one machine varies by."""
CALIBRATED_WIDTH = 16 * 64
"""Query heads times head width of the calibrated sizes. Smaller layers have less work for the same number of calls, so
they are judged as shorter texts."""


@dataclass(frozen=True)
class Size:
    """What the speed of a call depends on.

    Attributes:
        passes: What is computed.
        grouped: Whether several query heads share one KV head.
        tokens: Keys that a query sees at most, T, scaled for narrow layers.
        share: Active (token, head) pairs over all, 0 to 1.
    """

    passes: Passes
    grouped: bool
    tokens: int
    share: float


@dataclass(frozen=True)
class Cell:
    """One measured size: how many times faster than dense attention with gates each backend was."""

    size: Size
    gain: Mapping[str, float]


@dataclass(frozen=True)
class Table:
    """Measured cells and where they come from.

    Attributes:
        machine: Processor, torch and threads.
        cells: In any order.
    """

    machine: str
    cells: tuple[Cell, ...]


def choose(table: Table, size: Size, usable: Sequence[str], *, dense: bool = True) -> str:
    """Return the backend for a call: pure.

    Args:
        table: The measured cells.
        size: The call's size.
        usable: Backends that can run the call, the preferred one last.
        dense: Whether dense attention may be chosen.

    Returns:
        The backend of `usable` with the largest gain in the nearest cell with at most as many tokens and at least as
        large a share, if that gain is worth it; else ``reference``, or the last of `usable` where that may not be.
    """
    fitting = [
        cell
        for cell in table.cells
        if (cell.size.passes, cell.size.grouped) == (size.passes, size.grouped)
        and cell.size.tokens <= size.tokens
        and cell.size.share >= size.share
    ]
    if not fitting or (dense and size.share >= 1):
        return "reference" if dense else usable[-1]
    nearest = max(fitting, key=lambda cell: (cell.size.tokens, -cell.size.share))
    gain, name = max((nearest.gain.get(name, 0.0), name) for name in usable)
    return name if gain >= LEAST_GAIN or not dense else "reference"


def attention_backend(
    like: Tensor,
    *,
    batch: int,
    queries: int,
    keys: int,
    heads: int,
    groups: int,
    rows: int | None,
    training: bool,
    layer: bool = False,
) -> str:
    """Return the backend for attention with chosen heads; takes microseconds and never waits for a device.

    Args:
        like: Any of the queries: their device, type and width.
        batch: b.
        queries: n.
        keys: t.
        heads: h.
        groups: KV heads, g.
        rows: Chosen pairs where known (`HeadLayout.active_heads` times tokens), else None: a GPU's mask is not counted.
        training: Whether a gradient will be asked for.
        layer: Whether the projections of queries and output are made for chosen pairs too: then it pays earlier.

    Returns:
        A name of `strop.heads.attention.BACKENDS`.
    """
    width = like.shape[-1]
    if like.device.type != "cpu":
        every = rows is not None and rows >= batch * queries * heads
        return "reference" if every or _why_not("triton", like.device, like.dtype, width) is not None else "triton"
    share = 1.0 if rows is None else rows / max(1, batch * queries * heads)
    passes: Passes = "training" if training else "forward"
    if layer:
        passes = "layer training" if training else "layer forward"
    tokens = _tokens(queries, keys)
    return _chosen(passes, groups < heads, tokens, share, heads, width, like.dtype, torch.get_num_threads(), True)


def rows_backend(query_rd: Tensor, plan: RoutingPlan, *, training: bool) -> str:
    """Return the backend for rows that have been packed already, where dense attention is out of the question."""
    kind = query_rd.device, query_rd.dtype, query_rd.shape[-1]
    if query_rd.device.type != "cpu":
        return "triton" if _why_not("triton", *kind) is None else "gathered"
    share = plan.rows / max(1, plan.batch * plan.queries * plan.heads)
    passes: Passes = "training" if training else "forward"
    tokens, threads = _tokens(plan.queries, plan.visible.keys), torch.get_num_threads()
    grouped = plan.groups < plan.heads
    return _chosen(passes, grouped, tokens, share, plan.heads, kind[2], kind[1], threads, False)


def _tokens(queries: int, keys: int) -> int:
    """Return of how many tokens causal attention costs as much as that of these queries over these keys."""
    return keys if queries == keys else isqrt(2 * queries * keys)


def decoding_backend(query_bh1d: Tensor, key_bgtd: Tensor, *, share: float) -> str:
    """Return the backend for one new token that uses a share of its heads; only a CPU asks for the share."""
    heads, width = query_bh1d.shape[1], query_bh1d.shape[-1]
    if query_bh1d.device.type != "cpu":
        return "triton" if _why_not("triton", query_bh1d.device, query_bh1d.dtype, width) is None else "reference"
    grouped, threads = key_bgtd.shape[1] < heads, torch.get_num_threads()
    return _chosen("decode", grouped, key_bgtd.shape[2], share, heads, width, query_bh1d.dtype, threads, True)


@lru_cache(maxsize=4096)
def _chosen(
    passes: Passes,
    grouped: bool,
    tokens: int,
    share: float,
    heads: int,
    width: int,
    dtype: torch.dtype,
    threads: int,
    dense: bool,
) -> str:
    scaled = int(tokens * min(1.0, sqrt(heads * width / CALIBRATED_WIDTH)))
    usable = ["gathered"]
    if _why_not("native", torch.device("cpu"), dtype, width) is None:
        usable.append("native")
    return choose(table_here(threads), Size(passes, grouped, scaled, share), usable, dense=dense)


@cache
def _why_not(name: str, device: torch.device, dtype: torch.dtype, width: int) -> str | None:
    """Say why a backend cannot run on such tensors: asked once for each kind."""
    from strop.heads.attention import load_backend
    from strop.heads.plan import routing_plan
    from strop.heads.visibility import causal

    one = torch.ones(1, 1, 1, dtype=torch.bool, device=device)
    plan = routing_plan(one, groups=1, visible=causal(1, 1, device=device), heads_per_token=1)
    try:
        return load_backend(name).missing(torch.empty(1, width, dtype=dtype, device=device), plan)
    except ImportError as error:
        return str(error)


@cache
def table_here(threads: int) -> Table:
    """Return this machine's own table where it was calibrated with that many threads, else the shipped one."""
    path = table_path(threads)
    for text in (path.read_text() if path.is_file() else None, _shipped()):
        table = None if text is None else read_table(text)
        if table is not None:
            return table
    raise AssertionError("the shipped table is of this version")


def _shipped() -> str:
    return files("strop").joinpath("data/heads_calibration.json").read_text()


def table_path(threads: int) -> Path:
    """Return where the table of this machine, torch and number of threads is kept."""
    from platformdirs import user_cache_dir

    name = "".join(letter if letter.isalnum() else "-" for letter in machine_name(threads))
    return Path(user_cache_dir("strop")) / "heads" / f"calibration-{VERSION}-{name}.json"


def machine_name(threads: int) -> str:
    """Name the processor, torch and the number of threads."""
    return f"{_processor()}, torch {torch.__version__}, {threads} thread{'s' * (threads > 1)}"


@cache
def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def read_table(text: str) -> Table | None:
    """Read a table; None where it was written by another version or is damaged."""
    try:
        found = json.loads(text)
        if found["version"] != VERSION:
            return None
        cells = tuple(Cell(Size(**cell["size"]), dict(cell["gain"])) for cell in found["cells"])
        return Table(found["machine"], cells)
    except (ValueError, KeyError, TypeError):
        return None


def write_table(table: Table, path: Path) -> None:
    """Keep a table; the calls after it in this process use it."""
    from strop.records.tables import atomic_path

    cells = [{"size": asdict(cell.size), "gain": dict(cell.gain)} for cell in table.cells]
    lines = ",\n ".join(json.dumps(cell) for cell in cells)
    text = f'{{"version": {VERSION}, "machine": {json.dumps(table.machine)}, "cells": [\n {lines}\n]}}\n'
    with atomic_path(path) as part:
        part.write_text(text)
    table_here.cache_clear()
    _chosen.cache_clear()
