"""A reward model as a judge of pairs: of two responses the one with the higher reward is the better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from strop.errors import StropError
from strop.judging.judge import Comparison, Duel
from strop.judging.parsing import Verdict
from strop.models.asking import Advance
from strop.models.placement import Placement
from strop.models.rewards import Item, RewardModel, open_reward

TIED = 1e-6
"""Rewards that differ by no more are equal: rounding of float32 moves a score by as much."""


@dataclass(frozen=True)
class RewardJudge:
    """Compares by rewards; implements `strop.judging.judge.PairJudge`.

    Each different response is scored once, so the order of a duel's sides cannot matter: both orders always agree.

    Attributes:
        reward: An open reward model; whoever opened it closes it.
        advance: Told how many replies have come, two a duel, as from a model that is asked in both orders.
    """

    reward: RewardModel
    advance: Advance | None = None

    @property
    def name(self) -> str:
        """What to call the judge in a report."""
        return self.reward.name

    @property
    def revision(self) -> str:
        """What identifies the judge: the reward model's weights and form."""
        return self.reward.revision

    def scores(self, items: Sequence[Item]) -> list[float]:
        """Return the reward of each response to its prompt.

        Raises:
            UserError: An item is longer than the model's window.
            StropError: A reward is no number.
        """
        different = list(dict.fromkeys(items))
        rewards = dict(zip(different, self.reward.score(different), strict=True))
        wrong = [reward for reward in rewards.values() if not math.isfinite(reward)]
        if wrong:
            raise StropError("a reward is not a number", value=wrong[0], why="a model that overflows ranks nothing")
        return [rewards[item] for item in items]

    def compare(self, items: Sequence[Duel]) -> list[Comparison]:
        """Return one comparison a duel; `strength` is sigma of the difference, as the loss reads it."""
        firsts: list[Item] = [(duel.prompt, duel.first) for duel in items]
        seconds: list[Item] = [(duel.prompt, duel.second) for duel in items]
        rewards = self.scores([*firsts, *seconds])
        if self.advance is not None:
            self.advance(2 * len(items))
        return [
            _comparison(duel, first - second)
            for duel, first, second in zip(items, rewards[: len(items)], rewards[len(items) :], strict=True)
        ]


def _comparison(duel: Duel, margin: float) -> Comparison:
    verdict: Verdict = "tie" if abs(margin) <= TIED else "first" if margin > 0 else "second"
    small = math.exp(-abs(margin))
    strength = (1.0 if margin >= 0 else small) / (1.0 + small)
    return Comparison(duel.id, verdict, forward=verdict, backward=verdict, strength=strength)


def open_reward_judge(folder: Path, placement: Placement | None = None, advance: Advance | None = None) -> RewardJudge:
    """Open the reward model of a folder as a judge; close its `reward` when done."""
    return RewardJudge(open_reward(folder, placement), advance)
