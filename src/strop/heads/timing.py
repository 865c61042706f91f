"""Ways to do one thing, timed in turns: ratios within each round, and an interval of their median.

Other work on a machine changes both sides of a round alike; absolute times of a shared machine say nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from statistics import median
from typing import Literal

from strop.errors import UserError
from strop.runs import stream

Clock = Literal["cpu", "wall"]
"""Processor seconds of this process, which other processes change least, or seconds on the clock."""


@dataclass(frozen=True)
class Timing:
    """What one call took.

    Attributes:
        cpu_s: Processor seconds of all threads.
        wall_s: Seconds on the clock.
    """

    cpu_s: float
    wall_s: float


@dataclass(frozen=True)
class Ratio:
    """How many times faster one way is than another.

    Attributes:
        median: Of the per-round ratios.
        low: Lower end of the interval of the median.
        high: Its upper end.
        rounds: Ratios that went in.
    """

    median: float
    low: float
    high: float
    rounds: int

    @property
    def is_gain(self) -> bool:
        """Whether the whole interval lies above 1."""
        return self.low > 1.0

    def __str__(self) -> str:
        """As ``1.52 [1.47, 1.60]``."""
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def take_turns(
    ways: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    seed: int = 0,
    finish: Callable[[], object] | None = None,
) -> dict[str, list[Timing]]:
    """Run every way once a round, in another random order each round, and time each.

    Args:
        ways: What to do, by name; each has been called before, so that nothing is compiled or loaded here.
        rounds: How often.
        seed: Of the orders.
        finish: Called inside the clock after each, such as a wait for a GPU.

    Returns:
        The timings of each way, by round.
    """
    if rounds < 1:
        raise UserError("there must be at least one round", value=rounds)
    orders = stream(seed, "heads", "turns")
    found: dict[str, list[Timing]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name in orders.sample(list(ways), len(ways)):
            cpu, wall = time.process_time(), time.perf_counter()
            ways[name]()
            if finish is not None:
                finish()
            found[name].append(Timing(time.process_time() - cpu, time.perf_counter() - wall))
    return found


def ratio(slow: Iterable[Timing], fast: Iterable[Timing], *, clock: Clock = "cpu") -> Ratio:
    """Return how many times faster `fast` is than `slow`, both timed in the same rounds."""
    pairs = zip(_seconds(slow, clock), _seconds(fast, clock), strict=True)
    return of_ratios([above / below for above, below in pairs])


def of_ratios(ratios: Sequence[float], *, confidence: float = 0.95) -> Ratio:
    """Return the median of per-round ratios with an interval of it that assumes no distribution.

    The interval lies between two order statistics; with fewer than six rounds it is the range, which holds the median
    with 94 % (five rounds) or less.

    Args:
        ratios: One a round.
        confidence: That the interval holds the true median, at least, where there are rounds enough.
    """
    if not ratios:
        raise UserError("a ratio needs at least one round")
    ordered, count = sorted(ratios), len(ratios)
    cut, outside = 0, 2 * 0.5**count
    while cut + 1 <= (count - 1) // 2 and outside + 2 * comb(count, cut + 1) * 0.5**count <= 1.0 - confidence:
        cut += 1
        outside += 2 * comb(count, cut) * 0.5**count
    return Ratio(median(ordered), ordered[cut], ordered[-1 - cut], count)


def typical(timings: Iterable[Timing], *, clock: Clock = "cpu") -> float:
    """Return the median seconds."""
    return median(_seconds(timings, clock))


def _seconds(timings: Iterable[Timing], clock: Clock) -> list[float]:
    return [timing.cpu_s if clock == "cpu" else timing.wall_s for timing in timings]
