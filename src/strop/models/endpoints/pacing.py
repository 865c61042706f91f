"""How many requests a server gets at once: up while that brings more answers a second, down when it pushes back.

The controller is told of starts and landings and does no I/O and reads no clock. It counts in windows of as many
landings as the limit allows, about one round trip each:

* ramp: the limit doubles with every window that brought more answers a second than any before;
* then it climbs by a tenth where that brings more, and by one where it does no harm; it falls by a tenth where the
  latency has grown alone: to the best limit seen (the knee), or below it where fewer answers come than then;
* refusals (429, 5xx, timeouts) take half of their share in the window off the limit, as DCTCP does (Alizadeh et al.,
  SIGCOMM 2010, eq. 2): a server that refuses everything halves it, one refusal in twenty hardly moves it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

FIRST_LIMIT = 8
GROWN = 1.05
"""A window counts as better from this ratio of its throughput to the best one's."""
SLOWED = 1.25
"""Latency counts as risen from this ratio to the latency at the best throughput."""
CLIMB = 1.1
FALL = 0.9
LEARN = 0.1
"""How far what is expected at the knee moves towards what is measured there, window by window."""
FEW_REFUSALS = 0.1
"""Up to this share of refusals in a window the limit may still grow."""


@dataclass(slots=True)
class Window:
    """What came back since the last decision."""

    began: float
    size: int
    answered: int = 0
    refused: int = 0
    latency: float = 0.0
    full: bool = False


@dataclass(slots=True)
class Pacer:
    """Adaptive concurrency for one server.

    The best throughput, the limit at which it was seen (the knee) and the latency there are what a window is compared
    with.

    Attributes:
        most: The highest limit.
        flying: Requests that have not landed.
        ramping: Whether the limit still doubles.
    """

    most: int
    flying: int = 0
    ramping: bool = True
    _limit: float = field(init=False)
    _window: Window | None = None
    _best: float = 0.0
    _knee: float = 0.0
    _latency: float = 0.0

    def __post_init__(self) -> None:
        self._limit = float(min(FIRST_LIMIT, self.most))

    @property
    def limit(self) -> int:
        """How many requests may be in flight."""
        return int(self._limit)

    def start(self, now: float) -> None:
        """Take note of a request that goes out at `now`."""
        self.flying += 1
        window = self._window = self._window or Window(now, self.limit)
        window.full = window.full or self.flying >= self.limit

    def land(self, now: float, *, latency: float, refused: bool) -> None:
        """Take note of an answer after `latency` seconds, or of a refusal."""
        self.flying -= 1
        window = self._window
        if window is None:
            return
        window.refused += refused
        window.answered += not refused
        window.latency += 0.0 if refused else latency
        if window.answered + window.refused >= window.size and now > window.began:
            self._decide(window, now)
            self._window = Window(now, self.limit, full=self.flying >= self.limit)

    def leave(self) -> None:
        """Take note of a request that ended without telling anything of the server's load."""
        self.flying -= 1

    def _decide(self, window: Window, now: float) -> None:
        share = window.refused / (window.answered + window.refused)
        if window.full and window.answered and share <= FEW_REFUSALS:
            self._climb(window.answered / (now - window.began), window.latency / window.answered)
        if share > FEW_REFUSALS:
            self.ramping = False
            self._best = self._knee = 0.0
        self._limit = min(max(self._limit * (1 - share / 2), 1.0), float(self.most))

    def _climb(self, throughput: float, latency: float) -> None:
        if self._limit <= self._knee * CLIMB:
            self._best += (throughput - self._best) * LEARN
            self._latency += (latency - self._latency) * LEARN
        if self._limit > self._knee and throughput > self._best * GROWN:
            self._best, self._knee, self._latency = throughput, self._limit, latency
            self._limit = self._limit * 2 if self.ramping else max(self._limit * CLIMB, self._limit + 1)
            return
        self.ramping = False
        if latency <= self._latency * SLOWED:
            self._limit += 1
            return
        floor = self._knee if throughput * GROWN > self._best else 1.0
        self._limit = max(floor, self._limit * FALL)
        self._knee = min(self._knee, self._limit)
