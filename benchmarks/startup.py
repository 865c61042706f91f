"""How long the command line takes to start, against importing the two libraries that it is built on.

Run: ``make bench``, or ``.venv/bin/python benchmarks/startup.py``. Target: a ratio below 3. CPU seconds of the child
processes are compared, taken in turns and reduced by their minimum, so that other load on the machine cancels out.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

BASELINE = (sys.executable, "-c", "import typer, pydantic")
CANDIDATES = {
    "import strop": (sys.executable, "-c", "import strop"),
    "strop --help": (sys.executable, "-m", "strop.cli.main", "--help"),
}
TARGET = 3.0


@dataclass(frozen=True, slots=True)
class Measured:
    """CPU seconds, the least of all repetitions."""

    baseline: float
    candidates: dict[str, float]

    @property
    def ratio(self) -> float:
        """The slowest candidate over the baseline."""
        return max(self.candidates.values()) / self.baseline


def _cpu_seconds(command: tuple[str, ...]) -> float:
    before = os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


def measure(*, repetitions: int = 15) -> Measured:
    """Start each command `repetitions` times, in turns, after one unmeasured start that warms the caches."""
    for command in (BASELINE, *CANDIDATES.values()):
        _cpu_seconds(command)
    baseline: list[float] = []
    candidates: dict[str, list[float]] = {name: [] for name in CANDIDATES}
    for _ in range(repetitions):
        baseline.append(_cpu_seconds(BASELINE))
        for name, command in CANDIDATES.items():
            candidates[name].append(_cpu_seconds(command))
    return Measured(min(baseline), {name: min(seconds) for name, seconds in candidates.items()})


def main() -> None:
    """Print the ratios."""
    measured = measure()
    for name, seconds in measured.candidates.items():
        ratio = seconds / measured.baseline
        print(f"startup: {name:12}  {seconds:.3f} s / {measured.baseline:.3f} s = {ratio:.2f}  (target < {TARGET:.0f})")


if __name__ == "__main__":
    main()
