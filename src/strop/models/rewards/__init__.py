"""Reward models: what says how good a response to a prompt is, wherever it runs."""

from __future__ import annotations

from strop.models.rewards.opening import open_reward
from strop.models.rewards.protocol import Item, RewardModel

__all__ = ["Item", "RewardModel", "open_reward"]
