"""Whether a failed request is asked again, and how long to wait: bounded by the kind of failure and by elapsed time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from random import Random

from strop.models.protocol import CallFailure

REPEATS: Mapping[str, int] = {
    # A server that says "later" is well: it gets more patience than one that breaks.
    "rate_limit": 3,
    "server": 1,
    "timeout": 1,
    "disconnected": 1,
    "malformed": 1,
    "conflict": 1,
}
"""How often a call is repeated after failures of a kind, in multiples of the option `retries`.

A server that cannot be reached is not in the table: its calls wait until the server is set right or given up.
"""
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
JITTER = 0.5
"""A wait of our own choice is drawn from this share of it up to all of it, so that calls do not come back as one."""
JITTER_ASKED = 0.1
"""A wait that the server asked for grows by at most this share."""
EXPONENT_CAP = 16


@dataclass(frozen=True, slots=True)
class Retrying:
    """The bounds on repeats.

    Attributes:
        retries: Repeats after failures of one kind; see `REPEATS`.
        retry_for: Seconds from a call's first request after which it is not asked again.
    """

    retries: int
    retry_for: float

    def wait(
        self, failures: Sequence[CallFailure], *, elapsed: float, asked: float | None, random: Random
    ) -> float | None:
        """Return the seconds to wait before a call is asked again, or None where it is given up.

        Args:
            failures: What the call met so far, the latest last.
            elapsed: Seconds since its first request.
            asked: What the server asked to wait (Retry-After), if it did.
            random: The stream of the jitter.
        """
        latest = failures[-1]
        left = self.retry_for - elapsed
        times = sum(failure.kind == latest.kind for failure in failures)
        if not latest.transient or left <= 0 or times > self.retries * REPEATS.get(latest.kind, 1):
            return None
        if asked is not None:
            return min(asked * (1 + JITTER_ASKED * random.random()), left)
        longest = backoff(times, first=FIRST_WAIT_S, longest=LONGEST_WAIT_S)
        return min(longest * (1 - JITTER * random.random()), left)


def backoff(times: int, *, first: float, longest: float) -> float:
    """Return the wait after so many failures: `first`, doubled with each more, at most `longest`."""
    return float(min(longest, first * 2 ** min(times - 1, EXPONENT_CAP)))


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Return how many seconds a reply's headers ask to wait, or None where they do not say (RFC 9110, 10.2.3).

    Args:
        headers: By lower-case name; ``retry-after-ms`` goes before ``retry-after``, which holds seconds or a date.
        now: Unix time.
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        seconds = _number(text)
        if seconds is not None:
            return max(0.0, seconds * unit)
        if unit == 1.0 and text:
            return _until(text, now)
    return None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _until(date: str, now: float) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - now)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
