"""From a name to a reward model, and what is no reward model."""

from __future__ import annotations

from pathlib import Path

import pytest

from strop.errors import Stopped, UserError
from strop.models.placement import Placement
from strop.models.rewards import RewardModel, open_reward
from strop.models.rewards.folder import FolderReward
from strop.models.rewards.opening import require_reward
from strop.models.rewards.words import WordsReward


def test_each_form_opens_its_kind(tiny_reward: Path) -> None:
    opened: list[RewardModel] = [
        open_reward("words"),
        open_reward(tiny_reward, Placement(device="cpu")),
        open_reward(str(tiny_reward), Placement(device="cpu")),
    ]
    assert [type(one) for one in opened] == [WordsReward, FolderReward, FolderReward]
    assert opened[1].revision == opened[2].revision
    for one in opened:
        one.close()


def test_a_server_that_does_not_answer_stops_what_can_go_on_later() -> None:
    with pytest.raises(Stopped, match=r"does not answer(?s:.*)strop serve-reward"):
        open_reward("http://127.0.0.1:9/get_reward")


@pytest.mark.parametrize("name", ["nowhere", "", "word", "ftp://127.0.0.1/get_reward"])
def test_anything_else_is_refused_with_the_forms(name: str) -> None:
    for refuse in (open_reward, require_reward):
        with pytest.raises(UserError, match=r"no such reward model(?s:.*)/get_reward(?s:.*)words"):
            refuse(name)


def test_requiring_opens_nothing(tiny_reward: Path) -> None:
    for name in ("words", "http://127.0.0.1:9/get_reward", str(tiny_reward)):
        require_reward(name)
