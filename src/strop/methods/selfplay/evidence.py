"""What a self-play run has made, by what it is for; the report is told from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from strop.runs import Artifact

BASE = "base"
"""The model before the first iteration."""


@dataclass(frozen=True, slots=True)
class Iteration:
    """One round of self-play.

    Attributes:
        number: From 1.
        played: The sessions of its model with the training patients, and with the development patients.
        examples: What is learned from them.
        looked: What the round is like.
        watched: The round held against the first one; None in the first.
        model: What came of it; None where the training is the user's, or where there was nothing to learn.
    """

    number: int
    played: Artifact
    examples: Artifact
    looked: Artifact
    watched: Artifact | None = None
    model: Artifact | None = None

    @property
    def name(self) -> str:
        """What the model is called."""
        return f"iteration{self.number}"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the report is told from.

    Attributes:
        patients: The cards and their sides.
        iterations: The rounds.
        choice: Which model understands the development patients best; None where nothing was trained.
        examined: Benchmark predictions by the name of the model.
        compared: The benchmarks of the chosen model beside the base; None without benchmarks.
    """

    patients: Artifact
    iterations: tuple[Iteration, ...]
    choice: Artifact | None
    examined: Mapping[str, Artifact]
    compared: Artifact | None
