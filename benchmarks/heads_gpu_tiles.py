"""Which sizes of tiles suit a GPU: tries the candidates at each length and share, forward and backward apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from statistics import median

import torch
from heads_gpu import SHARES, timed
from heads_gpu_work import Sizes, Way
from torch import Tensor

from strop.heads.backends.triton import attend
from strop.heads.backends.triton_tiles import Blocks, default_blocks
from strop.heads.plan import RoutingPlan, routing_plan
from strop.heads.visibility import causal


def candidates(usual: Blocks, *, backward: bool, tiny: bool) -> Iterator[Blocks]:
    """Vary what matters to one of the passes; the usual sizes come first."""
    yield usual
    if tiny:
        yield replace(usual, rows=16, owned_keys=16)
    elif backward:
        for owned, walked, keys, warps in product((64, 128), (32, 64), (32, 64), (4, 8)):
            yield replace(usual, owned_keys=owned, walked_rows=walked, backward_keys=keys, backward_warps=warps)
    else:
        for rows, keys, warps, stages in product((64, 128), (32, 64, 128), (4, 8), (2, 3, 4)):
            yield replace(usual, rows=rows, keys=keys, warps=warps, stages=stages)


def tune(sizes: Sizes, *, rounds: int) -> Iterator[str]:
    """Time the candidates; one line a case with the fastest beside the usual ones."""
    for tokens, share, backward in product(sizes.lengths, SHARES, (False, True)):
        visible = causal(1, tokens, device=sizes.device)
        plan = routing_plan(sizes.choice(1, tokens, share), groups=sizes.groups, visible=visible)
        query, key, value = sizes.tensors(1, tokens, tokens, grads=backward)
        leaves = (plan.pack(query.detach()).requires_grad_(backward), key, value)
        usual = default_blocks(sizes.width, sizes.kind.itemsize, sizes.heads / sizes.groups * share)
        times = {}
        for blocks in dict.fromkeys(candidates(usual, backward=backward, tiny=sizes.device == "cpu")):
            way = partial(step, leaves, plan, sizes.scale, blocks, backward)
            taken = fitting(way, rounds=rounds, device=sizes.device)
            if taken is not None:
                times[blocks] = taken
        best = min(times, key=times.__getitem__)
        passes = "forward+backward" if backward else "forward"
        before = f"usual {times[usual]:.3f} ms" if usual in times else "the usual sizes do not fit"
        yield f"{passes} n={tokens} {share:.0%}: {before}, best {times[best]:.3f} ms with {best}"


def step(
    leaves: tuple[Tensor, ...], plan: RoutingPlan, scale: float, blocks: Blocks, backward: bool
) -> Tensor | tuple[Tensor, ...]:
    """Attend, and with `backward` make the gradients too."""
    query_rd, key_bgtd, value_bgtd = leaves
    out_rd = attend(query_rd, key_bgtd, value_bgtd, plan=plan, scale=scale, blocks=blocks, splits=1)
    return torch.autograd.grad(out_rd.sum(), leaves) if backward else out_rd


def fitting(way: Way, *, rounds: int, device: str) -> float | None:
    """Return a way's median milliseconds, or None where its tiles do not fit into this GPU."""
    from triton.runtime.errors import OutOfResources

    try:
        return median(timed({"it": way}, rounds=rounds, device=device)["it"])
    except OutOfResources:
        return None
