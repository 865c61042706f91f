"""Which speeches a round takes and which samples make a pair, hand-worked and as properties."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.methods.preference.online import RankedPair, best_and_worst, slice_of

TEXTS = st.lists(st.sampled_from(["a", "b", "c", "a ", "longer text"]), min_size=1, max_size=8)


def test_slices_follow_each_other_and_wrap() -> None:
    """Five speeches, two a round: 01, 23, 40, 12, ..."""
    rounds = [slice_of("01234", iteration=number, size=2) for number in range(5)]
    assert ["".join(one) for one in rounds] == ["01", "23", "40", "12", "34"]


def test_the_papers_numbers() -> None:
    """About 24,000 training speeches, 6,400 a round: 16 rounds see each speech 4 or 5 times (spec: 4.3 passes)."""
    seen = [0] * 23_835
    for iteration in range(16):
        for place in slice_of(range(23_835), iteration=iteration, size=6_400):
            seen[place] += 1
    assert set(seen) == {4, 5}
    assert sum(seen) / len(seen) == pytest.approx(4.3, abs=0.01)


def test_a_round_never_holds_a_speech_twice() -> None:
    assert slice_of("012", iteration=4, size=8) == list("012")


def test_no_speech() -> None:
    with pytest.raises(UserError, match="no speech"):
        slice_of([], iteration=0, size=2)


@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 30))
def test_slices_lie_end_to_end(count: int, size: int, iteration: int) -> None:
    """All rounds together go through the speeches in turn, none left out."""
    rounds = [slice_of(range(count), iteration=number, size=size) for number in range(iteration + 1)]
    flat = [place for one in rounds for place in one]
    assert flat == [place % count for place in range(len(flat))]


def test_argmax_against_argmin() -> None:
    picked = best_and_worst("s", ["low", "high", "middle", "lowest"], [0.1, 0.9, 0.5, -2.0])
    assert picked == RankedPair("high", "lowest", 0.9, -2.0)


def test_of_equal_rewards_the_first() -> None:
    assert best_and_worst("s", ["a", "b", "c", "d"], [1.0, 2.0, 2.0, 1.0]) == RankedPair("b", "a", 2.0, 1.0)


@pytest.mark.parametrize(
    ("texts", "rewards", "allowed", "reason"),
    [
        (["a", "a", "a"], [1.0, 1.0, 1.0], None, "equal texts"),
        (["a", "b", "c"], [1.0, 1.0, 1.0], None, "equal rewards"),
        (["a", "a "], [1.0, 1.5], None, "equal texts"),
        (["a"], [1.0], None, "fewer than two samples"),
        ([], [], None, "fewer than two samples"),
        (["a", "b"], [1.0, 2.0], [False, False], "none may be chosen"),
        (["a", "b"], [1.0, 2.0], [True, False], "none may be chosen"),
    ],
)
def test_no_pair(texts: list[str], rewards: list[float], allowed: list[bool] | None, reason: str) -> None:
    assert best_and_worst("s", texts, rewards, allowed=allowed) == reason


def test_what_may_not_be_chosen_may_be_rejected() -> None:
    """The best is barred, the second best wins; the worst is barred too and loses all the same."""
    picked = best_and_worst("s", ["best", "good", "bad"], [3.0, 2.0, 1.0], allowed=[False, True, False])
    assert picked == RankedPair("good", "bad", 2.0, 1.0)


@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf])
def test_a_reward_that_is_no_number(reward: float) -> None:
    with pytest.raises(UserError, match="'s7' is not a number"):
        best_and_worst("s7", ["a", "b"], [0.0, reward])


@given(TEXTS, st.data())
def test_a_pair_is_always_a_preference(texts: list[str], data: st.DataObject) -> None:
    """A pair has a gap, two texts, an allowed winner that nothing allowed beats, and the lowest reward as its loser."""
    rewards = data.draw(st.lists(st.integers(-3, 3).map(float), min_size=len(texts), max_size=len(texts)))
    allowed = data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts)))
    picked = best_and_worst("s", texts, rewards, allowed=allowed)
    if isinstance(picked, str):
        return
    assert picked.chosen_reward > picked.rejected_reward == min(rewards)
    assert picked.chosen.strip() != picked.rejected.strip()
    may = [(text, reward) for text, reward, mark in zip(texts, rewards, allowed, strict=True) if mark]
    assert (picked.chosen, picked.chosen_reward) in may
    assert picked.chosen_reward == max(reward for _, reward in may)


@given(TEXTS, st.data(), st.floats(-5, 5), st.floats(0.1, 10))
def test_scale_and_origin_do_not_matter(texts: list[str], data: st.DataObject, origin: float, scale: float) -> None:
    rewards = data.draw(st.lists(st.integers(-3, 3).map(float), min_size=len(texts), max_size=len(texts)))
    moved = [origin + scale * reward for reward in rewards]
    first, second = best_and_worst("s", texts, rewards), best_and_worst("s", texts, moved)
    assert isinstance(first, str) == isinstance(second, str)
    if isinstance(first, RankedPair) and isinstance(second, RankedPair):
        assert (first.chosen, first.rejected) == (second.chosen, second.rejected)
