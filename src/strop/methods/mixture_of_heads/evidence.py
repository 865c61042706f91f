"""What a run has made, by what it is for; results and report are told from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from strop.runs import Artifact


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that a run has made.

    Attributes:
        text: The documents and their split.
        start: The dense model's losses before the arms are trained; None without a model to convert.
        starts: Losses of each converted arm before training, by arm.
        trained: Each arm's trainings, by arm, one a seed: the dense control first.
        jumps: Perplexity at step 0 under other choices, by setting.
        scratch: Trainings of the small models, by arm, one a seed.
        examined: Benchmarks, by arm.
        results: What the losses say.
    """

    text: Artifact
    start: Artifact | None = None
    starts: Mapping[str, Artifact] = field(default_factory=dict)
    trained: Mapping[str, tuple[Artifact, ...]] = field(default_factory=dict)
    jumps: Mapping[str, Artifact] = field(default_factory=dict)
    scratch: Mapping[str, tuple[Artifact, ...]] = field(default_factory=dict)
    examined: Mapping[str, Artifact] = field(default_factory=dict)
    results: Artifact | None = None
