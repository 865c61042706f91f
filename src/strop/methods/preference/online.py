"""Online iterative DPO as pure functions: which speeches a round takes, and which samples make a pair.

The published loop of this kind (OpenRLHF's) starts with the first sample as best and worst alike, so that equal rewards
give a pair of a text with itself, and it merges equal prompts. Here such speeches are left out by name, and samples are
kept by the speech's id.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from strop.errors import UserError
from strop.records.rows import Identifier

Item = TypeVar("Item")

Skipped = Literal["fewer than two samples", "none may be chosen", "equal texts", "equal rewards"]
"""Why a speech gives no pair."""


@dataclass(frozen=True, slots=True)
class RankedPair:
    """The best and the worst sample of a speech.

    Attributes:
        chosen: The text with the highest reward among those that may be preferred.
        rejected: The text with the lowest reward of all.
        chosen_reward: Its reward.
        rejected_reward: Its reward.
    """

    chosen: str
    rejected: str
    chosen_reward: float
    rejected_reward: float


def slice_of(speeches: Sequence[Item], *, iteration: int, size: int) -> list[Item]:
    """Return the speeches of a round: consecutive slices, and after the last speech the first again.

    Args:
        speeches: All training speeches, in a fixed order.
        iteration: The round, from 0.
        size: Speeches of a round; a round never holds one twice, so a smaller set is taken whole.

    Raises:
        UserError: There is no speech.
    """
    if not speeches:
        raise UserError("there is no speech to train on", fix="look at the splits of 'speeches'")
    size = min(size, len(speeches))
    start = iteration * size
    return [speeches[(start + place) % len(speeches)] for place in range(size)]


def best_and_worst(
    identifier: Identifier, samples: Sequence[str], rewards: Sequence[float], *, allowed: Sequence[bool] | None = None
) -> RankedPair | Skipped:
    """Return the pair of one speech, or why there is none.

    Of equal rewards the first sample is taken, so that the same samples give the same pair. A response that is not
    allowed, because it fails the safety gate or was cut, can be rejected and never chosen.

    Args:
        identifier: The speech's, for the message.
        samples: Its responses.
        rewards: One for each.
        allowed: Whether each may be chosen; None allows all.

    Raises:
        UserError: A reward is no number.
    """
    allowed = [True] * len(samples) if allowed is None else allowed
    if not len(samples) == len(rewards) == len(allowed):
        raise ValueError(f"{len(samples)} samples, {len(rewards)} rewards, {len(allowed)} marks")
    for reward in rewards:
        if not math.isfinite(reward):
            why = "a reward model that overflows ranks nothing"
            raise UserError(f"a reward of speech {identifier!r} is not a number", value=reward, why=why)
    if len(samples) < 2:
        return "fewer than two samples"
    places = range(len(samples))
    worst = min(places, key=rewards.__getitem__)
    if rewards[worst] == max(rewards):
        return "equal texts" if len({text.strip() for text in samples}) == 1 else "equal rewards"
    best = max((place for place in places if allowed[place]), key=rewards.__getitem__, default=worst)
    if rewards[best] <= rewards[worst]:
        return "none may be chosen"
    if samples[best].strip() == samples[worst].strip():
        return "equal texts"
    return RankedPair(samples[best], samples[worst], rewards[best], rewards[worst])
