"""What the experiments of a run come to."""

from __future__ import annotations

from dataclasses import dataclass

from strop.runs import Artifact, Stage


@dataclass(frozen=True, slots=True)
class Iteration:
    """One iteration of Stage I: its selection, and the same labels graded against gold for the report."""

    number: int
    selection: Artifact
    labels: Artifact


@dataclass(frozen=True, slots=True)
class Experiment:
    """One seed's artifacts that the results are computed from.

    Attributes:
        seed: The seed.
        tested: The graded test answers of each arm.
        iterations: Stage I, in order.
        sides: The graded preference pairs, or None without Stage II.
        passes: Correct samples per test question, or None where pass@k is left out.
    """

    seed: int
    tested: dict[str, Artifact]
    iterations: tuple[Iteration, ...]
    sides: Artifact | None
    passes: Artifact | None


def summarise(stage: Stage, experiments: list[Experiment], *, settings: object) -> None:
    pass
