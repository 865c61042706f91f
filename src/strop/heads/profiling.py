"""Whether mixture-of-head attention pays for one converted model: every way to run it in turns, beside the bound."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import harmonic_mean, mean

import torch

from strop.errors import UserError
from strop.heads.attention import BACKENDS
from strop.heads.ceiling import (
    LEARNED_ROUTER,
    NORM_ROUTER,
    DecoderShape,
    Skipped,
    decode_bytes,
    decode_flops,
    decode_speedup,
    idle_share,
    prefill_speedup,
)
from strop.heads.layout import HeadLayout
from strop.heads.profiling_ways import STEPS, Profiled, Step, open_profiled, ways_of
from strop.heads.timing import Clock, Ratio, Timing, ratio, take_turns, typical

DENSE, GATED = "dense", "gated dense"
"""The original model by torch's own kernel; and all heads, then the gates, as the published code does."""
CPU_BACKENDS = ("auto", "gathered", "native")
GPU_BACKENDS = ("auto", "triton", "gathered", "flex")
FLOATS_A_TOKEN = 16
"""Numbers of the layer's width that a training step keeps for a token in a layer, beside the MLP's four."""


@dataclass(frozen=True)
class Arm:
    """One way to run one step.

    Attributes:
        name: `DENSE`, `GATED`, or a backend.
        cpu_s: Median processor seconds; None where it was not run.
        wall_s: Median seconds on the clock.
        over_dense: How many times faster than the original model, by the profile's clock.
        over_gated: How many times faster than all heads and then the gates.
        wall_over_dense: The first on the clock.
        why_not: Why it was not run.
    """

    name: str
    cpu_s: float | None = None
    wall_s: float | None = None
    over_dense: Ratio | None = None
    over_gated: Ratio | None = None
    wall_over_dense: Ratio | None = None
    why_not: str | None = None

    @property
    def verdict(self) -> str:
        """In a word or two, for people: a gain only where the whole interval lies above 1."""
        if self.over_dense is None:
            return "not run"
        return "gain" if self.over_dense.is_gain else "no gain"


@dataclass(frozen=True)
class Measured:
    """One step at one length.

    Attributes:
        step: Which.
        length: Tokens of a row, those in the cache included.
        bound: The best ratio over the dense model that the counted work allows.
        arms: Every way, the dense model first.
        why_not: Why nothing was run.
    """

    step: Step
    length: int
    bound: float
    arms: list[Arm] = field(default_factory=list)
    why_not: str | None = None


@dataclass(frozen=True)
class Profile:
    """What was measured, and on what.

    Attributes:
        model: The folder.
        share: Active heads over all, the mean of the layers.
        router: ``learned`` or ``query_norm``.
        batch: Rows.
        rounds: Rounds behind each ratio.
        threads: Of torch.
        device: Where the model was.
        clock: Which time the ratios are of.
        torch: Its version.
        measured: By step and length.
    """

    model: str
    share: float
    router: str
    batch: int
    rounds: int
    threads: int
    device: str
    clock: Clock
    torch: str
    measured: list[Measured]


def profile(
    folder: Path,
    lengths: Sequence[int],
    *,
    batch: int = 1,
    rounds: int = 5,
    threads: int = 1,
    steps: Sequence[str] = STEPS,
    backends: Sequence[str] | None = None,
    device: str = "cpu",
    seed: int = 0,
    told: Callable[[str], None] | None = None,
) -> Profile:
    """Measure a converted model against the model that it was made from.

    Steps: one attention layer (its projections too), prefill of the whole model, forward and backward of a training
    step (without the optimiser's own part, which is the same for all), and one new token behind a cache.

    Args:
        folder: A converted model.
        lengths: Tokens of a row.
        batch: Rows.
        rounds: Each way runs once a round, in random order, after one run that is not counted.
        threads: Of torch. With one, ratios are of processor time; with more, or on a GPU, of the clock.
        steps: Which of `STEPS`.
        backends: Ways to run the chosen heads; ``auto`` and those that may run on the device by default.
        device: Where to run.
        seed: Of tokens and orders.
        told: Takes a line of progress.

    Raises:
        UserError: The folder holds a dense model or none, a length exceeds the context, a number is below 1,
            or a name is unknown.
    """
    _check_numbers(batch=batch, rounds=rounds, threads=threads)
    _check_names("step", steps, STEPS)
    names = backends or (CPU_BACKENDS if device == "cpu" else GPU_BACKENDS)
    _check_names("attention backend", names, ("auto", *BACKENDS[1:]))
    clock: Clock = "cpu" if device == "cpu" and threads == 1 else "wall"
    with _torch_threads(threads):
        opened = open_profiled(folder, lengths=lengths, device=device, seed=seed)
        measured = []
        for step in (known for known in STEPS if known in steps):
            for length in lengths:
                if told is not None:
                    told(f"{step} at {length:,} tokens")
                measured.append(_measure(opened, step, length, batch, names, rounds=rounds, clock=clock, seed=seed))
    return Profile(
        model=str(folder),
        share=mean(layout.active_share for layout in opened.layouts),
        router=opened.router,
        batch=batch,
        rounds=rounds,
        threads=threads,
        device=device,
        clock=clock,
        torch=torch.__version__,
        measured=measured,
    )


def bound(  # the arguments are what a step is made of
    shape: DecoderShape,
    layouts: Sequence[HeadLayout],
    step: Step,
    length: int,
    *,
    batch: int = 1,
    router: str = "learned",
    number_bytes: int = 4,
    routed_layer: int = 0,
) -> float:
    """Return the best possible ratio of a step over the dense model, whatever runs it.

    The work that layers save adds up, so the bound of a model is the harmonic mean of those that it would have if all
    layers were as each one is. A decoding step waits for memory or for arithmetic, so that the larger bound holds.

    Args:
        shape: The decoder.
        layouts: Of its layers.
        step: One of `STEPS`.
        length: Tokens of a row.
        batch: Rows.
        router: ``query_norm`` needs the queries of all heads.
        number_bytes: Bytes of a weight and of a number in the cache.
        routed_layer: Which layer `layer` is.
    """
    skipped: tuple[Skipped, ...] = NORM_ROUTER if router == "query_norm" else LEARNED_ROUTER
    if step == "layer":
        alone = DecoderShape(
            width=shape.width,
            layers=1,
            query_heads=shape.query_heads,
            kv_groups=shape.kv_groups,
            head_width=shape.head_width,
            mlp_width=0,
        )
        return prefill_speedup(alone, length, layouts[routed_layer].active_share, skipped=skipped)
    shares = [layout.active_share for layout in layouts]
    if step != "decode":
        logits = step == "train"
        return harmonic_mean([prefill_speedup(shape, length, r, skipped=skipped, output_table=logits) for r in shares])
    read = decode_bytes(shape, length, batch, number_bytes=number_bytes)
    by_bytes = [
        decode_speedup(read, batch, layout.active_share, idle=idle_share(layout), skipped=skipped) for layout in layouts
    ]
    flops = decode_flops(shape, length)
    logits_flops = 2.0 * shape.width * shape.vocabulary / shape.layers
    by_flops = [(flops.total + logits_flops) / (flops.skipping(r, skipped) + logits_flops) for r in shares]
    return max(harmonic_mean(by_bytes), harmonic_mean(by_flops))


def _measure(
    opened: Profiled,
    step: Step,
    length: int,
    batch: int,
    names: Sequence[str],
    *,
    rounds: int,
    clock: Clock,
    seed: int,
) -> Measured:
    limit = bound(
        opened.shape,
        opened.layouts,
        step,
        length,
        batch=batch,
        router=opened.router,
        number_bytes=opened.number_bytes,
        routed_layer=opened.routed_layer,
    )
    too_much = _too_much(opened, step, length, batch)
    if too_much is not None:
        return Measured(step, length, limit, why_not=too_much)
    ways = ways_of(opened, step, length, batch, {DENSE: None, GATED: "reference", **{name: name for name in names}})
    finish = torch.cuda.synchronize if opened.device.startswith("cuda") else None
    why_not: dict[str, str] = {}
    for name, way in ways.items():
        try:
            way()
        except (UserError, ImportError) as error:
            if name in (DENSE, GATED):
                raise
            why_not[name] = str(error)
    timed = take_turns(
        {name: way for name, way in ways.items() if name not in why_not}, rounds=rounds, seed=seed, finish=finish
    )
    arms = [Arm(name, why_not=why_not[name]) if name in why_not else _arm(name, timed, clock=clock) for name in ways]
    return Measured(step, length, limit, arms)


def _arm(name: str, timed: dict[str, list[Timing]], *, clock: Clock) -> Arm:
    own = timed[name]
    return Arm(
        name,
        cpu_s=typical(own),
        wall_s=typical(own, clock="wall"),
        over_dense=ratio(timed[DENSE], own, clock=clock) if name != DENSE else None,
        over_gated=ratio(timed[GATED], own, clock=clock) if name not in (DENSE, GATED) else None,
        wall_over_dense=ratio(timed[DENSE], own, clock="wall") if name != DENSE else None,
    )


def _too_much(opened: Profiled, step: Step, length: int, batch: int) -> str | None:
    """Say that a training step would not fit into memory, where that can be told beforehand."""
    free = _free_bytes()
    if step != "train" or opened.device != "cpu" or free is None:
        return None
    shape = opened.shape
    layers = shape.layers * (FLOATS_A_TOKEN * shape.width + 4 * shape.mlp_width)
    need = batch * length * opened.number_bytes * (layers + 3 * shape.vocabulary)
    if need < free:
        return None
    return f"a training step needs about {need / 1e9:.0f} GB, and {free / 1e9:.0f} GB are free"


def _free_bytes() -> int | None:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


def _check_numbers(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise UserError(f"{name} must be at least 1", value=value)


def _check_names(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise UserError(f"there is no such {what}", value=name, alternatives=known)


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
