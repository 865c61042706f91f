"""From what a user names to a reward model."""

from __future__ import annotations

from pathlib import Path

from strop.errors import UserError
from strop.models.placement import Placement
from strop.models.rewards.facts import is_reward_folder
from strop.models.rewards.protocol import RewardModel
from strop.models.rewards.words import WordsReward

WORDS = "words"


def open_reward(spec: str | Path, placement: Placement | None = None) -> RewardModel:
    """Open a reward model; close it when done.

    Args:
        spec: A folder that strop has trained; ``http(s)://HOST:PORT/get_reward``; or ``words``, which counts them.
        placement: Where a folder's model runs.

    Raises:
        UserError: There is no such reward model.
    """
    placement = placement or Placement()
    name = str(spec)
    if name == WORDS:
        return WordsReward()
    if name.startswith(("http://", "https://")):
        from strop.models.rewards.served import ServedReward

        return ServedReward(name)
    folder = Path(spec)
    if not is_reward_folder(folder):
        raise UserError(
            "no such reward model",
            value=name,
            fix="train one with `strop reward train`",
            alternatives=["a folder with reward.json", "http://HOST:PORT/get_reward", WORDS],
        )
    from strop.models.rewards.folder import FolderReward

    return FolderReward(folder, device=placement.device, dtype=placement.dtype)
