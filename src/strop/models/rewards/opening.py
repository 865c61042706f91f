"""From what a user names to a reward model."""

from __future__ import annotations

from pathlib import Path

from strop.errors import UserError
from strop.models.placement import Placement
from strop.models.rewards.facts import is_reward_folder
from strop.models.rewards.protocol import RewardModel
from strop.models.rewards.words import WordsReward

WORDS = "words"
SERVED = ("http://", "https://")


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
    if name.startswith(SERVED):
        from strop.models.rewards.served import ServedReward

        return ServedReward(name)
    require_reward(name)
    from strop.models.rewards.folder import FolderReward

    return FolderReward(Path(spec), device=placement.device, dtype=placement.dtype)


def require_reward(name: str) -> None:
    """Make sure that a reward model can be meant, without opening it: a folder must hold one; nobody is called.

    Raises:
        UserError: There is no such reward model.
    """
    if name == WORDS or name.startswith(SERVED) or is_reward_folder(Path(name)):
        return
    raise UserError(
        "no such reward model",
        value=name,
        fix="train one with `strop reward train`",
        alternatives=["a folder with reward.json", "http://HOST:PORT/get_reward", WORDS],
    )
