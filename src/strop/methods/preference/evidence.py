"""What a run leaves for its report: the artifacts, by what they are evidence of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from strop.runs import Artifact

INITIAL, PROMPTED, DPO, ONLINE = "initial", "tuned_prompt", "dpo", "online"
LABELS: Mapping[str, str] = {
    INITIAL: "initial policy",
    PROMPTED: "initial policy with a tuned prompt",
    DPO: "offline DPO",
    ONLINE: "online iterative DPO",
}
"""What a person reads for each policy."""


@dataclass(frozen=True, slots=True)
class Iteration:
    """One round of online DPO.

    Attributes:
        number: From 1.
        picked: Its pairs and what was left out.
        policy: What it trained.
        examined: What the development speeches say of it.
        watch: What the watch measured.
    """

    number: int
    picked: Artifact
    policy: Artifact
    examined: Artifact
    watch: Artifact


@dataclass(frozen=True, slots=True)
class Online:
    """All rounds, and the policy that was chosen: the initial one (number 0) where no round was better."""

    start: Artifact
    iterations: tuple[Iteration, ...]
    chosen: int
    choice: Artifact


@dataclass(frozen=True, slots=True)
class Contest:
    """One policy against the opponent."""

    arm: str
    word_limit: int | None
    answers: Artifact
    opponent: Artifact
    comparisons: Artifact
    results: Artifact


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that the report reads.

    Attributes:
        speeches: Splits and counts.
        pairs: The preference pairs and their counts.
        published: The pairs in the forms that others read, with their card.
        rewards: The reward models by name: `reward`, and `second` where there is one.
        quality: What each is worth on test pairs.
        policies: The trained policies by arm.
        online: The rounds of online DPO; None where it was left out.
        tested: What each policy's answers to the test speeches were rewarded.
        gains: The comparison of those.
        contests: Win rates.
    """

    speeches: Artifact
    pairs: Artifact
    published: Artifact
    rewards: Mapping[str, Artifact]
    quality: Mapping[str, Artifact]
    policies: Mapping[str, Artifact]
    online: Online | None
    tested: Mapping[str, Artifact]
    gains: Artifact
    contests: tuple[Contest, ...]
