"""Which heads each arm uses, by hand; every arm of a setting uses the same share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.methods.mixture_of_heads.arms import layouts
from strop.methods.mixture_of_heads.config import Choice, Heads, SharedBy

NINE = [[0.1, 0.9, 0.5, 0.8, 0.2, 0.3, 0.7, 0.4, 0.6]]
"""One layer of SmolLM2's shape: nine heads in three groups."""


def test_free_by_importance() -> None:
    """The seven largest of NINE are all but heads 0 and 4; the three largest are 1, 3 and 6."""
    heads = Heads(active=7 / 9, choice="free", shared=3)
    (pruned,), (routed,) = (layouts(heads, arm, NINE, kv_groups=3) for arm in ("pruned", "moh"))
    assert (pruned.shared, pruned.active) == ((1, 2, 3, 5, 6, 7, 8), 0)
    assert (routed.shared, routed.active, routed.units) == ((1, 3, 6), 4, 6)


def test_two_of_three_in_each_group() -> None:
    """Groups (0.1, 0.9, 0.5), (0.8, 0.2, 0.3), (0.7, 0.4, 0.6): the two largest of each, the largest of each."""
    heads = Heads(active=2 / 3, choice="per_group", shared=3)
    (pruned,), (routed,) = (layouts(heads, arm, NINE, kv_groups=3) for arm in ("pruned", "moh"))
    assert pruned.shared == (1, 2, 3, 5, 6, 8)
    assert (routed.shared, routed.active, routed.units) == ((1, 3, 6), 1, 2)


def test_the_papers_choice_is_the_first_heads() -> None:
    heads = Heads(active=7 / 9, choice="free", shared=4, shared_by="first")
    (pruned,), (routed,) = (layouts(heads, arm, NINE, kv_groups=3) for arm in ("pruned", "moh"))
    assert pruned.shared == tuple(range(7))
    assert routed.shared == (0, 1, 2, 3)


@given(
    choice=st.sampled_from(["free", "per_group", "groups"]),
    by=st.sampled_from(["first", "importance"]),
    importance=st.lists(st.floats(0, 1), min_size=12, max_size=12),
    data=st.data(),
)
def test_pruned_and_routed_use_the_same_share(
    choice: Choice, by: SharedBy, importance: list[float], data: st.DataObject
) -> None:
    """Twelve heads in three groups: whatever the choice, both arms have as many active heads a layer."""
    step = {"free": 1, "per_group": 3, "groups": 4}[choice]
    active = data.draw(st.integers(1, 12 // step - 1)) * step
    heads = Heads(active=active / 12, choice=choice, shared_by=by)
    (pruned,), (routed,) = (layouts(heads, arm, [importance], kv_groups=3) for arm in ("pruned", "moh"))
    assert pruned.active_heads == routed.active_heads == active
    if choice == "per_group":
        assert pruned.rows_per_group == routed.rows_per_group == active // 3


def test_spread_by_importance() -> None:
    """At 7 of 9 four heads go: the first layer matters ten times as much and keeps 8, the second loses the limit of 3.

    Pruning keeps as many in each: all of NINE but head 0, and its six largest.
    """
    heads = Heads(active=7 / 9, choice="free", spread="importance")
    importance = [[10 * one for one in NINE[0]], NINE[0]]
    pruned, routed = (layouts(heads, arm, importance, kv_groups=3) for arm in ("pruned", "moh"))
    assert [one.active for one in routed] == [8, 6]
    assert [one.shared for one in pruned] == [tuple(range(1, 9)), (1, 2, 3, 6, 7, 8)]


def test_a_share_that_does_not_divide_is_refused() -> None:
    with pytest.raises(UserError, match="share"):
        layouts(Heads(active=0.5, choice="per_group"), "moh", NINE, kv_groups=3)


def test_shares_as_people_write_them() -> None:
    assert Heads.model_validate({"active": "7/9"}).active == pytest.approx(7 / 9)
    assert Heads.model_validate({"active": "75 %"}).active == 0.75
