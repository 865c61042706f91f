"""What the GPU benchmark of mixture-of-head attention checks and times: Triton's kernels and torch's attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import cycle

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from strop.heads.attention import load_backend, moh_attention
from strop.heads.backends.reference import gated_attention
from strop.heads.plan import RoutingPlan, routing_plan
from strop.heads.visibility import Visible, causal

Way = Callable[[], object]
COLD_BYTES = 256 * 2**20
"""Caches of keys and values are read in turn until they fill this much: one alone would stay in the GPU's own cache."""
FP32_BOUND = 1e-5


@dataclass(frozen=True)
class Sizes:
    """What is measured on.

    Attributes:
        heads: Query heads, H.
        groups: KV heads, G.
        width: Of a head.
        kind: Type of the numbers.
        device: Where.
        lengths: Tokens of a prefill, and cached tokens of a decoding step.
        batches: Sequences of a decoding step.
        checked: Tokens of the check of correctness.
    """

    heads: int
    groups: int
    width: int
    kind: torch.dtype
    device: str
    lengths: tuple[int, ...]
    batches: tuple[int, ...]
    checked: int

    @property
    def scale(self) -> float:
        """Of the scores."""
        return float(self.width**-0.5)

    def tensors(self, batch: int, queries: int, keys: int, *, grads: bool = False) -> list[Tensor]:
        """Make queries, keys and values."""
        shapes = [(batch, self.heads, queries), *[(batch, self.groups, keys)] * 2]
        made = [torch.randn(*shape, self.width, device=self.device, dtype=self.kind) for shape in shapes]
        return [tensor.requires_grad_(grads) for tensor in made]

    def choice(self, batch: int, tokens: int, share: float, *, by_group: bool = False) -> Tensor:
        """Let each token take heads, or whole KV groups, at random; (b, n, h)."""
        units = self.groups if by_group else self.heads
        score_bnu = torch.rand(batch, tokens, units, device=self.device)
        index_bnk = score_bnu.topk(round(share * units), dim=-1).indices
        mask_bnu = torch.zeros_like(score_bnu, dtype=torch.bool).scatter(2, index_bnk, True)
        return mask_bnu.repeat_interleave(self.heads // units, dim=2)


LLAMA = Sizes(32, 8, 128, torch.bfloat16, "cuda", (2048, 8192, 32768), (1, 8, 32), 517)
"""Llama-3-8B's attention."""
TINY = Sizes(4, 2, 16, torch.float32, "cpu", (40,), (2,), 33)
"""For Triton's interpreter: shows that everything here runs, and nothing else."""


@contextmanager
def flash(sizes: Sizes) -> Iterator[None]:
    """Let torch use its FlashAttention kernel only: an error where it cannot, never another kernel unnoticed."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.FLASH_ATTENTION) if sizes.device == "cuda" else nullcontext():
        yield


def prefill_ways(sizes: Sizes, tokens: int, share: float, *, grads: bool) -> dict[str, Way]:
    """Attention over a whole context, dense and sparse; the sparse way pays for its plan and for gathering rows."""
    leaves = sizes.tensors(1, tokens, tokens, grads=grads)
    query, key, value = leaves
    visible = causal(1, tokens, device=sizes.device)

    def dense() -> Tensor:
        with flash(sizes):
            return scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)

    def sparse(mask_bnh: Tensor) -> Tensor:
        plan = routing_plan(mask_bnh, groups=sizes.groups, visible=visible)
        return moh_attention(plan.pack(query), key, value, plan=plan, backend="triton")

    some, full = (sizes.choice(1, tokens, part) for part in (share, 1.0))
    ways: dict[str, Callable[[], Tensor]] = {"dense": dense}
    ways |= {"sparse": partial(sparse, some), "all heads": partial(sparse, full)}
    return {name: with_gradients(way, leaves) if grads else way for name, way in ways.items()}


def with_gradients(way: Callable[[], Tensor], leaves: list[Tensor]) -> Way:
    """Add the backward pass, for one gradient of the output that is made beforehand."""
    cotangent = torch.randn_like(way())
    return lambda: torch.autograd.grad(way(), leaves, cotangent)


def decode_ways(sizes: Sizes, cached: int, batch: int, share: float, *, by_group: bool) -> dict[str, Way]:
    """One new token of each sequence; on a GPU replayed from CUDA graphs, with the plan made and rows gathered before.

    Launching from Python would take longer than either side's kernels.
    """
    one_cache = 2 * batch * sizes.groups * cached * sizes.width * sizes.kind.itemsize
    copies = max(1, min(COLD_BYTES // one_cache, 64)) if sizes.device == "cuda" else 1
    sets = [sizes.tensors(batch, 1, cached) for _ in range(copies)]
    visible = causal(batch, 1, cached, device=sizes.device)
    some = sizes.choice(batch, 1, share, by_group=by_group)
    plans = [routing_plan(mask, groups=sizes.groups, visible=visible) for mask in (some, torch.ones_like(some))]

    def dense(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        with flash(sizes):
            return scaled_dot_product_attention(query, key, value, enable_gqa=True)

    def sparse(rows_rd: Tensor, key: Tensor, value: Tensor, plan: RoutingPlan) -> Tensor:
        return load_backend("triton").attend(rows_rd, key, value, plan=plan, scale=sizes.scale)

    ways: dict[str, list[Way]] = {"dense": [partial(dense, *tensors) for tensors in sets]}
    for name, plan in zip(("sparse", "all heads"), plans, strict=True):
        ways[name] = [partial(sparse, plan.pack(query), key, value, plan) for query, key, value in sets]
    replayed = captured if sizes.device == "cuda" else list
    return {name: in_turn(replayed(calls)) for name, calls in ways.items()}


def in_turn(calls: list[Way]) -> Way:
    """Make one way of several that read different caches."""
    endless = cycle(calls)

    def call_next() -> object:
        return next(endless)()

    return call_next


def captured(calls: list[Way]) -> list[Way]:
    """Record each call as a CUDA graph."""
    graphs: list[Way] = []
    for call in calls:
        side: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
        graphs.append(graph.replay)
    return graphs


def errors(sizes: Sizes, kind: torch.dtype) -> dict[str, tuple[float, float]]:
    """Compare output and gradients with dense attention in fp64, padding on the left included.

    Returns:
        For each, the kernels' error and that of torch's own attention of the same type: largest absolute error over
        largest absolute value.
    """
    tokens = sizes.checked
    query, key, value = [tensor.to(kind) for tensor in sizes.tensors(2, tokens, tokens)]
    mask_bnh = sizes.choice(2, tokens, 0.5)
    first_bn = torch.tensor([[0], [tokens // 3]], device=sizes.device, dtype=torch.int32).expand(2, tokens)
    place_bn = torch.arange(tokens, device=sizes.device, dtype=torch.int32).expand(2, tokens)
    visible = Visible(first_bn, torch.where(place_bn >= first_bn, place_bn, -1), tokens)
    cotangent = torch.randn_like(query)

    def answers(way: str, as_type: torch.dtype) -> list[Tensor]:
        leaves = [tensor.to(as_type).requires_grad_() for tensor in (query, key, value)]
        if way == "kernels":
            out = moh_attention(*leaves, head_mask_bnh=mask_bnh, visible=visible, backend="triton")
        else:
            gate_bnh = mask_bnh.to(as_type)
            out = gated_attention(*leaves, gate_bnh=gate_bnh, visible=visible, scale=sizes.scale)
        return [out.detach(), *torch.autograd.grad(out, leaves, cotangent.to(as_type))]

    want, ours, torchs = answers("dense", torch.float64), answers("kernels", kind), answers("dense", kind)
    if not all(torch.equal(a, b) for a, b in zip(ours, answers("kernels", kind), strict=True)):
        raise SystemExit("the kernels gave other bits when they ran again")
    names = ("output", "query", "key", "value")
    far = [[relative(got, right) for got, right in zip(found, want, strict=True)] for found in (ours, torchs)]
    return dict(zip(names, zip(*far, strict=True), strict=True))


def relative(got: Tensor, want: Tensor) -> float:
    """Return the largest absolute error over the largest absolute value."""
    return float((got.double() - want).abs().max() / want.abs().max())


def check(sizes: Sizes) -> list[str]:
    """Compare with fp64 before anything is timed.

    Returns:
        What was found, for people.

    Raises:
        SystemExit: The kernels are wrong here.
    """
    lines = []
    for kind in dict.fromkeys((torch.float32, sizes.kind)):
        found = errors(sizes, kind)
        for name, (ours, torchs) in found.items():
            bound = FP32_BOUND if kind == torch.float32 else 2 * torchs + torch.finfo(kind).eps
            lines.append(f"{kind}, {name}: error {ours:.1e} (torch's own {torchs:.1e}, bound {bound:.1e})")
            if not ours <= bound:
                raise SystemExit("\n".join([*lines, "the kernels are wrong here: nothing is timed"]))
    return lines
