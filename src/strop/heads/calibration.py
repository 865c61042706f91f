"""Time the backends on this machine and keep the table from which `auto` chooses.

Every way is timed beside dense attention with gates in the same rounds, with everything that it needs: routing plan,
gathering of rows, and for attention alone the scattering back to all heads. Sixteen heads of width 64, random choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import linear

from strop.heads.attention import load_backend, moh_attention
from strop.heads.backends.reference import gated_attention
from strop.heads.choosing import Cell, Passes, Size, Table, machine_name, table_path, write_table
from strop.heads.decoding import moh_decode
from strop.heads.plan import routing_plan
from strop.heads.projections import project_output, project_queries
from strop.heads.timing import Clock, ratio, take_turns, typical
from strop.heads.visibility import causal

HEADS, WIDTH = 16, 64
HIDDEN = HEADS * WIDTH
GROUPED = 4
TOKENS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
SHARES = (0.25, 0.5, 0.75, 0.875)
PASSES: tuple[Passes, ...] = ("forward", "training", "decode", "layer forward", "layer training")
LONGEST: dict[Passes, int] = {
    "forward": 4096,
    "training": 2048,
    "decode": 4096,
    "layer forward": 4096,
    "layer training": 2048,
}
"""Gains grow with length: what is longer than this is judged by it, and not worth the minutes."""
CALIBRATED = ("gathered", "native")
SECONDS = 0.4
"""Spent on each way of each size, about: many rounds of what is short, a few of what is long."""
Way = Callable[[], object]


def calibrate(
    *,
    tokens: Sequence[int] = TOKENS,
    shares: Sequence[float] = SHARES,
    passes: Sequence[Passes] = PASSES,
    seconds: float = SECONDS,
    tell: Callable[[str], object] = lambda line: None,
) -> Table:
    """Time the grid on this machine with torch's present number of threads, and keep the table for later processes.

    Args:
        tokens: Lengths, T.
        shares: Active heads over all.
        passes: What to time.
        seconds: For each way of each size, about.
        tell: Called with one line for each size.

    Returns:
        The table; it is in use from now on.
    """
    threads = torch.get_num_threads()
    cells = []
    for size in sizes(tokens, shares, passes):
        cells.append(measure(size, seconds=seconds))
        gains = ", ".join(f"{name} {gain:.2f}" for name, gain in cells[-1].gain.items())
        tell(
            f"{size.passes}, {'grouped' if size.grouped else 'one head a group'}, T={size.tokens}, "
            f"{size.share:.0%}: {gains}"
        )
    table = Table(machine_name(threads), tuple(cells))
    write_table(table, table_path(threads))
    return table


def sizes(tokens: Sequence[int], shares: Sequence[float], passes: Sequence[Passes]) -> Iterator[Size]:
    """Yield the sizes of the grid; short ones first."""
    for length, kind, grouped, share in product(tokens, passes, (False, True), shares):
        if length <= LONGEST.get(kind, length):
            yield Size(kind, grouped, length, share)


def measure(size: Size, *, seconds: float = SECONDS) -> Cell:
    """Time one size: how many times faster than dense attention with gates each backend is that can run here."""
    threads = torch.get_num_threads()
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ways = _ways(size, ("reference", *_usable()), generator)
    clock: Clock = "cpu" if threads == 1 else "wall"
    for way in ways.values():
        way()
    # A process's clock ticks in steps that short calls drown in: they are repeated within a round.
    first = take_turns(ways, rounds=1)
    longest = max(timings[0].wall_s for timings in first.values())
    repeats = max(1, int(0.02 / max(longest, 1e-6)))
    rounds = min(25, max(3, int(seconds / max(longest * repeats, 1e-6))))
    found = take_turns({name: partial(_repeat, way, repeats) for name, way in ways.items()}, rounds=rounds)
    dense = found.pop("reference")
    assert typical(dense) > 0
    return Cell(size, {name: round(ratio(dense, timed, clock=clock).median, 3) for name, timed in found.items()})


def _usable() -> list[str]:
    mask_bnh = torch.ones(1, 1, 1, dtype=torch.bool)
    plan = routing_plan(mask_bnh, groups=1, visible=causal(1, 1))
    return [name for name in CALIBRATED if load_backend(name).missing(torch.zeros(1, WIDTH), plan) is None]


def _repeat(way: Way, times: int) -> None:
    for _ in range(times):
        way()


def _ways(size: Size, names: Sequence[str], generator: torch.Generator) -> dict[str, Way]:
    groups = GROUPED if size.grouped else HEADS
    queries = 1 if size.passes == "decode" else size.tokens
    score_bnh = torch.rand(1, queries, HEADS, generator=generator)
    picked_bnk = score_bnh.topk(round(size.share * HEADS), dim=-1).indices
    mask_bnh = torch.zeros_like(score_bnh, dtype=torch.bool).scatter(2, picked_bnk, True)
    training = "training" in size.passes
    key, value = (torch.randn(1, groups, size.tokens, WIDTH, requires_grad=training) for _ in range(2))
    query = torch.randn(1, HEADS, queries, WIDTH, requires_grad=training)
    if size.passes == "decode":
        return {
            name: partial(
                _without_gradient, partial(moh_decode, query, key, value, head_mask_bnh=mask_bnh, backend=name)
            )
            for name in names
        }
    if size.passes.startswith("layer"):
        hidden = torch.randn(1, queries, HIDDEN, requires_grad=training)
        first, last = (torch.randn(HIDDEN, HIDDEN).div_(HIDDEN**0.5).requires_grad_(training) for _ in range(2))
        leaves, call = [hidden, first, last, key, value], partial(_layer, hidden, first, last, key, value, mask_bnh)
    else:
        leaves, call = [query, key, value], partial(_attention, query, key, value, mask_bnh)
    if not training:
        return {name: partial(_without_gradient, partial(call, name)) for name in names}
    return {name: partial(_with_gradient, partial(call, name), leaves) for name in names}


def _without_gradient(call: Callable[[], Tensor]) -> None:
    with torch.inference_mode():
        call()


def _with_gradient(call: Callable[[], Tensor], leaves: Sequence[Tensor]) -> None:
    out = call()
    torch.autograd.grad(out, leaves, torch.ones_like(out))


def _attention(query: Tensor, key: Tensor, value: Tensor, mask_bnh: Tensor, backend: str) -> Tensor:
    return moh_attention(query, key, value, head_mask_bnh=mask_bnh, backend=backend)


def _layer(
    hidden: Tensor, query_qD: Tensor, output_Dq: Tensor, key: Tensor, value: Tensor, mask_bnh: Tensor, backend: str
) -> Tensor:
    """Project queries, attend, project the output; keys and values cost the same in every way and are left out."""
    visible = causal(1, hidden.shape[1])
    if backend == "reference":
        query = linear(hidden, query_qD).view(1, -1, HEADS, WIDTH).transpose(1, 2)
        gate_bnh, scale = mask_bnh.float(), WIDTH**-0.5
        out = gated_attention(query, key, value, gate_bnh=gate_bnh, visible=visible, scale=scale)
        return linear(out.transpose(1, 2).flatten(2), output_Dq)
    plan = routing_plan(mask_bnh, groups=key.shape[1], visible=visible)
    query_rd = project_queries(hidden, query_qD, None, plan, head_width=WIDTH, backend=backend)
    out_rd = moh_attention(query_rd, key, value, plan=plan, backend=backend)
    return project_output(out_rd, output_Dq, None, plan, backend=backend)
