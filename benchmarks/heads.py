"""Mixture-of-head attention against torch's dense attention: its core, whole layers, decoding, whole models.

    python benchmarks/heads.py [--part core,layer,...] [--rounds 9] [--seconds 12] [--backend native] [--json FILE]

Dense and sparse ways take turns on one thread in one process; a figure is the median of the rounds' ratios of processor
time, dense over sparse, with an interval of that median. Plan, gathering of rows and, in layers, the router are inside.
Two factors are given for each: what our kernel gains with all heads on, and what sparsity alone gains over that. The
ideal of attention is 1/r, that of a layer or a model is what the counted work allows. Targets stand beside; in brackets
the ambitious ones. `--part` runs some of: core, layer, gathered, decode, token, short, auto, model.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from heads_token import TOKEN_SIZES, TokenSize, token_ways
from heads_work import HEADS, WIDTH, Case, Passes, Way, core_ways, decode_ways, layer_ways

from strop.heads.attention import load_backend
from strop.heads.ceiling import layer_ideal
from strop.heads.timing import Ratio, Timing, of_ratios, ratio, take_turns, typical

MHA, GROUPED = HEADS, HEADS // 4
FEWEST, SHORTEST_S = 3, 0.02
"""Rounds of the longest cells; seconds that a way takes in a round, at least and about."""
AUTO_OVER_GATED, AUTO_OVER_DENSE = 0.97, 0.93
GRID_TOKENS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
GRID_SHARES = (0.25, 0.5, 0.75, 1.0)
BOTH: tuple[Passes, ...] = ("forward", "forward+backward")
Target = tuple[float, float]
CORE: dict[tuple[int, Passes, float], Target] = {
    (MHA, "forward", 0.5): (2.0, 2.4),
    (MHA, "forward", 0.25): (3.6, 4.5),
    (GROUPED, "forward", 0.5): (2.5, 2.9),
    (GROUPED, "forward", 0.25): (4.6, 5.5),
    (MHA, "forward+backward", 0.5): (2.4, 3.0),
    (MHA, "forward+backward", 0.25): (4.4, 5.5),
    (GROUPED, "forward+backward", 0.5): (2.8, 3.3),
    (GROUPED, "forward+backward", 0.25): (5.2, 6.2),
}
LAYER: dict[tuple[int, float], Target] = {
    (MHA, 0.75): (1.2, 1.35),
    (MHA, 0.5): (1.5, 1.7),
    (MHA, 0.25): (2.0, 2.3),
    (GROUPED, 0.75): (1.45, 1.65),
    (GROUPED, 0.5): (2.0, 2.3),
    (GROUPED, 0.25): (3.2, 3.7),
}
GATHERED: dict[tuple[int, float], Target] = {
    (MHA, 0.5): (1.2, 1.4),
    (MHA, 0.25): (2.2, 2.7),
    (GROUPED, 0.5): (1.6, 1.9),
    (GROUPED, 0.25): (3.0, 3.5),
}
DECODE: dict[tuple[int, bool], Target] = {
    (MHA, False): (4.5, 5.5),
    (GROUPED, False): (4.0, 4.8),
    (GROUPED, True): (5.5, 7),
}


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        part: Of the benchmark.
        case: The size.
        way: What is compared with dense attention.
        over: How many times faster.
        against: What it is faster than.
        ideal: What the counted work allows.
        target: What it must reach.
        ambitious: What it should reach.
        all_heads: Our kernel with all heads on over the dense way: the first factor.
        alone: All heads on over the chosen ones: the second.
        cpu_s: Median processor seconds of a round.
    """

    part: str
    case: str
    way: str
    over: Ratio
    against: str = "dense"
    ideal: float | None = None
    target: float | None = None
    ambitious: float | None = None
    all_heads: Ratio | None = None
    alone: Ratio | None = None
    cpu_s: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether the median reaches the target, if there is one."""
        return self.target is None or self.over.median >= self.target

    def line(self) -> str:
        """For people."""
        text = f"{self.part:9}{self.case:58}{self.way:10}{self.over!s:20}"
        if self.against != "dense":
            text += f" of {self.against}"
        if self.target is not None:
            hopes = "" if self.ambitious is None else f" ({self.ambitious})"
            text += f"  target {self.target}{hopes} {'met' if self.is_met else 'MISSED'}"
        if self.ideal is not None:
            text += f"  ideal {self.ideal:.2f}"
        if self.all_heads is not None and self.alone is not None:
            text += f"  all heads {self.all_heads.median:.2f}, sparsity alone {self.alone.median:.2f}"
        return text

    def cells(self) -> list[str]:
        """For a page: case, ratio, the two factors, ideal, targets."""
        target = "-" if self.target is None else f"{self.target:g}"
        hopes = "" if self.ambitious is None else f" ({self.ambitious:g})"
        return [
            self.case if self.against == "dense" else f"{self.case}, of {self.against}",
            f"**{self.over}**" if self.is_met else f"{self.over}, missed",
            "-" if self.all_heads is None else f"{self.all_heads.median:.2f}",
            "-" if self.alone is None else f"{self.alone.median:.2f}",
            "-" if self.ideal is None else f"{self.ideal:.2f}",
            target + hopes,
        ]


@dataclass(frozen=True)
class Options:
    """How long to measure, and by what.

    Attributes:
        rounds: At most.
        seconds: Of one cell, roughly; long cells get fewer rounds, at least `FEWEST`.
        backend: Of the parts that name none.
    """

    rounds: int
    seconds: float
    backend: str


def timed(ways: Mapping[str, Way], options: Options) -> dict[str, list[Timing]]:
    """Warm every way up, choose the number of rounds by what that took, and let them take turns."""
    for way in ways.values():
        way()
    start = time.perf_counter()
    for way in ways.values():
        way()
    one_round = max(time.perf_counter() - start, 1e-9)
    repeats = max(1, round(SHORTEST_S * len(ways) / one_round))
    rounds = max(FEWEST, min(options.rounds, int(options.seconds / (one_round * repeats))))
    return take_turns({name: partial(repeated, way, repeats) for name, way in ways.items()}, rounds=rounds)


def repeated(way: Way, times: int) -> None:
    """Call a way several times: what is short is measured many times within a round."""
    for _ in range(times):
        way()


def row(  # the two factors and the targets of one comparison
    part: str,
    case: Case | TokenSize,
    way: str,
    found: dict[str, list[Timing]],
    *,
    target: Target | None,
    ideal: float,
    note: str = "",
) -> Row:
    """Compare a sparse way with the dense one of the same rounds."""
    full = found[f"{way}, all heads"]
    return Row(
        part,
        f"{case}{note}",
        way,
        ratio(found["dense"], found[way]),
        ideal=ideal,
        target=target[0] if target else None,
        ambitious=target[1] if target else None,
        all_heads=ratio(found["dense"], full),
        alone=ratio(full, found[way]),
        cpu_s=typical(found[way]),
    )


def core(options: Options) -> Iterator[Row]:
    """Attention alone at T = 2,048."""
    for (groups, passes, share), target in CORE.items():
        case = Case(groups, 2048, share, passes=passes)
        found = timed(core_ways(case, (options.backend,)), options)
        yield row("core", case, options.backend, found, target=target, ideal=1 / share)


def layer(options: Options) -> Iterator[Row]:
    """A layer with projections and learned router at T = 2,048, forward; with gradients beside it, without targets."""
    for passes in BOTH:
        for (groups, share), target in LAYER.items():
            case = Case(groups, 2048, share, passes=passes)
            found = timed(layer_ways(case, (options.backend,)), options)
            yield row(
                "layer",
                case,
                options.backend,
                found,
                target=target if passes == "forward" else None,
                ideal=_layer_ideal(case),
            )


def gathered(options: Options) -> Iterator[Row]:
    """Pure torch alone: what there is without a compiler."""
    for (groups, share), target in GATHERED.items():
        case = Case(groups, 2048, share)
        found = timed(core_ways(case, ("gathered",)), options)
        yield row("gathered", case, "gathered", found, target=target, ideal=1 / share)


def decode(options: Options) -> Iterator[Row]:
    """One new token behind 8,192: by query head, and by KV group."""
    for (groups, by_group), target in DECODE.items():
        case = Case(groups, 8192, 0.25)
        found = timed(decode_ways(case, (options.backend,), by_group=by_group), options)
        note = ", by KV group" if by_group else ", by query head"
        yield row("decode", case, options.backend, found, target=target, ideal=4.0, note=note)


def token(options: Options) -> Iterator[Row]:
    """The projections of one new token, which read the weights of the chosen heads only; cold weights."""
    if options.backend != "native":
        return
    for size in TOKEN_SIZES:
        for output in (False, True):
            found = timed(token_ways(size, output=output), options)
            note = ", output" if output else ", queries"
            yield row("token", size, "native", found, target=None, ideal=size.heads / size.chosen, note=note)


def short(options: Options) -> Iterator[Row]:
    """Attention and layers of short inputs."""
    for groups in (MHA, GROUPED):
        for tokens in (64, 128, 256, 512):
            for share in (0.5, 0.25):
                case = Case(groups, tokens, share)
                found = timed(core_ways(case, (options.backend,)), options)
                yield row("core", case, options.backend, found, target=None, ideal=1 / share)
                found = timed(layer_ways(case, (options.backend,)), options)
                yield row("layer", case, options.backend, found, target=None, ideal=_layer_ideal(case))


def auto(options: Options) -> Iterator[Row]:
    """`auto`, all heads in and out, nowhere slower than dense attention and gates, nor much than dense attention."""
    for groups in (MHA, GROUPED):
        for batch in (1, 4):
            for tokens in GRID_TOKENS:
                for share in GRID_SHARES:
                    case = Case(groups, tokens, share, batch)
                    ways = core_ways(case, ("auto",), packed=False)
                    del ways["auto, all heads"]
                    found = timed(ways, options)
                    for against, least in (("gated dense", AUTO_OVER_GATED), ("dense", AUTO_OVER_DENSE)):
                        over = ratio(found[against], found["auto"])
                        yield Row("auto", str(case), "auto", over, against=against, target=least)


def model(options: Options) -> Iterator[Row]:
    """Prefill and training step of SmolLM2-135M and of a Llama with 4 query heads a group, beside the bound."""
    from heads_models import converted_models

    from strop.heads.profiling import DENSE, GATED, profile

    with tempfile.TemporaryDirectory() as scratch:
        for name, folder in converted_models(Path(scratch)):
            found = profile(folder, (512, 2048), rounds=max(FEWEST, options.rounds // 2), backends=("auto",), seed=0)
            for measured in found.measured:
                for arm in measured.arms:
                    if arm.over_dense is not None and arm.name not in (DENSE, GATED):
                        case = f"{name} T={measured.length} {measured.step}"
                        yield Row("model", case, arm.name, arm.over_dense, ideal=measured.bound, cpu_s=arm.cpu_s)


def _layer_ideal(case: Case) -> float:
    return layer_ideal(case.share, heads_per_group=HEADS // case.groups, tokens_over_width=case.tokens / WIDTH)


PARTS: dict[str, Callable[[Options], Iterator[Row]]] = {
    "core": core,
    "layer": layer,
    "gathered": gathered,
    "decode": decode,
    "token": token,
    "short": short,
    "auto": auto,
    "model": model,
}


def own_backend() -> str:
    """Return ``native`` where its kernels can be built, else ``gathered``."""
    reason = getattr(load_backend("native"), "available")()  # noqa: B009  # not part of the protocol
    if reason is not None:
        print(f"native kernels are not there, gathered is measured instead: {reason}")
    return "native" if reason is None else "gathered"


def markdown(rows: Sequence[Row]) -> str:
    """Return the figures of all parts but the grid as tables for a page."""
    lines = []
    for part in dict.fromkeys(each.part for each in rows if each.part != "auto"):
        ways = ", ".join(dict.fromkeys(each.way for each in rows if each.part == part))
        lines += [f"\n| {part}, {ways} | times faster than dense | all heads | sparsity alone | ideal | target |"]
        lines += ["|---|---|---|---|---|---|"]
        lines += [f"| {' | '.join(each.cells())} |" for each in rows if each.part == part]
    return "\n".join(lines)


def summary(rows: Sequence[Row]) -> list[str]:
    """Return the worst cell of the grid, and what missed its target."""
    lines = []
    for against in ("gated dense", "dense"):
        cells = [each for each in rows if each.part == "auto" and each.against == against]
        if cells:
            worst = min(cells, key=lambda each: each.over.median)
            typical_cell = of_ratios([each.over.median for each in cells])
            lines.append(
                f"auto of {against}: {len(cells)} cells, median {typical_cell.median:.2f}, "
                f"worst {worst.over} at {worst.case}"
            )
    missed = [each for each in rows if not each.is_met]
    aimed = [each for each in rows if each.target is not None]
    lines.append(f"{len(aimed) - len(missed)} of {len(aimed)} targets met")
    return lines + [f"missed: {each.line()}" for each in missed]


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=9, help="of a cell, at most")
    parser.add_argument("--seconds", type=float, default=12.0, help="of a cell, about")
    parser.add_argument("--backend", help="of core, layer, decode and short; native where there is a compiler")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--markdown", action="store_true", help="also print them as tables for a page")
    given = parser.parse_args()
    parts = [name for name in given.part.split(",") if name]
    for name in parts:
        if name not in PARTS:
            parser.error(f"no such part: {name}; there are {', '.join(PARTS)}")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    options = Options(given.rounds, given.seconds, given.backend or own_backend())
    rows: list[Row] = []
    for name in parts:
        for found in PARTS[name](options):
            print(found.line(), flush=True)
            rows.append(found)
    print("\n".join(summary(rows)))
    if given.markdown:
        print(markdown(rows))
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(each) for each in rows], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
