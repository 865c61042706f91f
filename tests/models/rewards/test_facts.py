"""What a reward model's folder says about itself: written as it is read, refused where it is broken."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.models.rewards.facts import Normalisation, RewardFacts, is_reward_folder, measured

FACTS = RewardFacts(form="chat", max_length=512, heads=("empathy", "safety"), base="some model")


def test_facts_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert not is_reward_folder(tmp_path)
    scaled = measured(FACTS, [1.0, 3.0])
    scaled.write(tmp_path)
    assert is_reward_folder(tmp_path)
    assert RewardFacts.read(tmp_path) == scaled
    assert [path.name for path in tmp_path.iterdir()] == ["reward.json"]


def test_the_scale_by_hand() -> None:
    """1 and 3: mean 2, deviation 1 of the two themselves; a reward of 5 lies three deviations above."""
    scale = measured(FACTS, [1.0, 3.0]).normalisation
    assert scale == Normalisation(mean=2.0, std=1.0, n=2)
    assert scale.apply(5.0) == 3.0


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
def test_normalised_rewards_have_mean_zero_and_deviation_one(rewards: list[float]) -> None:
    scale = measured(FACTS, rewards).normalisation
    if scale is None:
        assert pstdev(rewards) == 0
        return
    if scale.std < 1e-6:
        return
    told = [scale.apply(reward) for reward in rewards]
    assert math.isclose(fmean(told), 0, abs_tol=1e-4)
    assert math.isclose(pstdev(told), 1, rel_tol=1e-3)


@pytest.mark.parametrize("rewards", [[], [1.0], [2.0, 2.0, 2.0]])
def test_nothing_to_measure_leaves_no_scale(rewards: list[float]) -> None:
    assert measured(FACTS, rewards) == FACTS


def test_a_folder_without_facts_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no reward model in this folder(?s:.*)strop reward train"):
        RewardFacts.read(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"form": "verse"},
        {"max_length": 1},
        {"base": None},
        {"mood": "good"},
        {"normalisation": {"mean": 0, "std": 0, "n": 2}},
    ],
)
def test_facts_that_cannot_be_meant(tmp_path: Path, change: dict[str, object]) -> None:
    FACTS.write(tmp_path)
    file = tmp_path / "reward.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(UserError, match=r"reward\.json: cannot be read"):
        RewardFacts.read(tmp_path)
