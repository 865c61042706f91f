"""Mixture-of-head attention on a GPU: our Triton kernels against FlashAttention-backed SDPA at Llama-3-8B's sizes.

    python benchmarks/heads_gpu.py [--rounds 20] [--json FILE] [--tune]
    python benchmarks/heads_gpu.py --tiny      # on a CPU, in Triton's interpreter: shows that it runs, times nothing

32 query heads, 8 KV heads of 128, bfloat16, batch 1; 50 and 75 % of the heads active, chosen freely for each token.
Output and gradients are compared with fp64 first, and nothing is timed if they are wrong. Dense and sparse ways take
turns; times are CUDA events; a figure is the median of the rounds' ratios, dense over sparse, with an interval of that
median, beside the bound: 1/r, and in decoding what the keys and values read allow. Two factors are given for each: our
kernel with all heads on over torch's, and what sparsity alone gains over that. Plan and gathering of rows are inside,
but in decoding, where both sides are replayed from CUDA graphs. Without a GPU: exit code 2.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from strop.heads.timing import Ratio, of_ratios
from strop.runs import stream

if TYPE_CHECKING:
    from heads_gpu_work import Sizes, Way

    from strop.heads.ceiling import DecoderShape

NO_GPU = 2
SHARES = (0.5, 0.75)
CALLS = 5
"""Calls between two CUDA events."""


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        part: ``forward``, ``forward+backward`` or ``decode``.
        case: The size.
        over: How many times faster than dense.
        bound: What the counted work or the bytes read allow.
        share_of_ideal: The median over 1/r.
        model_bound: What a whole Llama-3-8B can gain at best, with a learned router.
        all_heads: Our kernel with all heads on over the dense one.
        alone: All heads on over the chosen ones.
        dense_ms: Median milliseconds.
        sparse_ms: The same.
    """

    part: str
    case: str
    over: Ratio
    bound: float
    share_of_ideal: float
    model_bound: float
    all_heads: Ratio
    alone: Ratio
    dense_ms: float
    sparse_ms: float

    def line(self) -> str:
        """For people."""
        return (
            f"{self.part:17}{self.case:44}{self.over!s:20} bound {self.bound:.2f}, {self.share_of_ideal:.0%} of 1/r  "
            f"all heads {self.all_heads}, sparsity alone {self.alone}  model at best {self.model_bound:.2f}  "
            f"{self.dense_ms:.3f} / {self.sparse_ms:.3f} ms"
        )


def timed(ways: Mapping[str, Way], *, rounds: int, device: str) -> dict[str, list[float]]:
    """Warm up, then let the ways take turns, every round in another order; milliseconds of a call."""
    import torch

    for way in [*ways.values()] * 2:
        way()
    orders = stream(0, "heads", "gpu turns")
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name in orders.sample(list(ways), len(ways)):
            if device == "cpu":
                start = time.process_time()
                ways[name]()
                found[name].append((time.process_time() - start) * 1000)
                continue
            before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
            before.record()
            for _ in range(CALLS):
                ways[name]()
            after.record()
            torch.cuda.synchronize()
            found[name].append(before.elapsed_time(after) / CALLS)
    return found


def ratio(slow: list[float], fast: list[float]) -> Ratio:
    """Return how many times faster the second is, by round."""
    return of_ratios([above / below for above, below in zip(slow, fast, strict=True)])


def row(part: str, case: str, found: dict[str, list[float]], *, share: float, bound: float, model_bound: float) -> Row:
    """Compare the sparse way with the dense one of the same rounds."""
    over = ratio(found["dense"], found["sparse"])
    middle = {name: sorted(times)[len(times) // 2] for name, times in found.items()}
    return Row(
        part,
        case,
        over,
        bound,
        over.median * share,
        model_bound,
        ratio(found["dense"], found["all heads"]),
        ratio(found["all heads"], found["sparse"]),
        middle["dense"],
        middle["sparse"],
    )


def prefill(sizes: Sizes, rounds: int) -> Iterator[Row]:
    """Whole contexts, without and with gradients."""
    from heads_gpu_work import prefill_ways

    from strop.heads.ceiling import prefill_speedup

    for grads in (False, True):
        for tokens in sizes.lengths:
            for share in SHARES:
                ways = prefill_ways(sizes, tokens, share, grads=grads)
                found = timed(ways, rounds=rounds, device=sizes.device)
                model_bound = prefill_speedup(llama(), tokens, share)
                part = "forward+backward" if grads else "forward"
                yield row(part, f"n={tokens} {share:.0%}", found, share=share, bound=1 / share, model_bound=model_bound)


def decode(sizes: Sizes, rounds: int) -> Iterator[Row]:
    """One new token, by query head and by KV group."""
    from heads_gpu_work import decode_ways

    from strop.heads.ceiling import decode_bytes, decode_speedup, idle_share
    from strop.heads.layout import HeadLayout

    for tokens in sizes.lengths:
        for batch in sizes.batches:
            for share in SHARES:
                for by_group in (False, True):
                    layout = HeadLayout(
                        query_heads=sizes.heads,
                        kv_groups=sizes.groups,
                        shared=(),
                        active=round(share * (sizes.groups if by_group else sizes.heads)),
                        choice="groups" if by_group else "free",
                    )
                    idle = idle_share(layout)
                    ways = decode_ways(sizes, tokens, batch, share, by_group=by_group)
                    found = timed(ways, rounds=rounds, device=sizes.device)
                    model_bound = decode_speedup(decode_bytes(llama(), tokens, batch), batch, share, idle=idle)
                    case = f"n={tokens} batch {batch} {share:.0%} by {'KV group' if by_group else 'query head'}"
                    yield row("decode", case, found, share=share, bound=1 / (1 - idle), model_bound=model_bound)


def llama() -> DecoderShape:
    """Llama-3-8B, of which the bounds speak."""
    from strop.heads.ceiling import DecoderShape

    return DecoderShape(
        width=4096, layers=32, query_heads=32, kv_groups=8, head_width=128, mlp_width=14336, vocabulary=128256
    )


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--tune", action="store_true", help="try other sizes of tiles, and print what each takes")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes in Triton's interpreter, on a CPU")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser.parse_args()


def main() -> int:
    """Run the benchmark from the command line."""
    given = parse()
    if given.tiny:
        os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton
    import torch

    if not given.tiny and not torch.cuda.is_available():
        print("no GPU here: nothing is measured (--tiny shows on a CPU that the benchmark runs)", file=sys.stderr)
        return NO_GPU
    from heads_gpu_work import LLAMA, TINY, check

    sizes = TINY if given.tiny else LLAMA
    device = "Triton's interpreter: the times mean nothing" if given.tiny else torch.cuda.get_device_name()
    print(f"{device}; torch {torch.__version__}", flush=True)
    torch.manual_seed(0)
    checked = check(sizes)
    print("\n".join(checked), flush=True)
    if given.tune:
        from heads_gpu_tiles import tune

        print("\n".join(tune(sizes, rounds=given.rounds)), flush=True)
        return 0
    rows = []
    for part in (prefill, decode):
        for found in part(sizes, given.rounds):
            print(found.line(), flush=True)
            rows.append(asdict(found))
    if given.json is not None:
        figures = {"device": device, "torch": torch.__version__, "checked": checked, "rows": rows}
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
