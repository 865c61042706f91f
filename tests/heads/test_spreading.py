"""Heads of each layer by importance: by hand, and the whole stays what it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.heads.layout import Choice, HeadLayout
from strop.heads.spreading import spread_by_importance


def layout(active: int, choice: Choice = "free", shared: tuple[int, ...] = ()) -> HeadLayout:
    """Six heads in three groups."""
    return HeadLayout(query_heads=6, kv_groups=3, shared=shared, active=active, choice=choice)


def test_the_least_important_go_first() -> None:
    """Six units go, two a layer in the even spread; layer 0 matters, layer 1 little: 0, 3 (the limit), 3."""
    importance = [[9.0] * 6, [0.1] * 6, [1.0] * 6]
    assert [one.active for one in spread_by_importance([layout(4)] * 3, importance)] == [6, 3, 3]


def test_shared_heads_stay_and_do_not_count() -> None:
    """Heads 0 and 1 of layer 0 matter least of all but are shared; its routed ones matter most."""
    even = [layout(2, shared=(0, 1))] * 2
    spread = spread_by_importance(even, [[0.0, 0.0, 9.0, 9.0, 9.0, 9.0], [5.0] * 6])
    assert [(one.shared, one.active) for one in spread] == [((0, 1), 3), ((0, 1), 1)]


def test_a_unit_of_each_group() -> None:
    """Pairs (1, 8), (2, 7), (3, 6): giving up one of each costs 6; (4, 9) three times costs 12."""
    even = [layout(1, "per_group")] * 2
    rows = [[1.0, 8.0, 7.0, 2.0, 3.0, 6.0], [4.0, 9.0, 9.0, 4.0, 4.0, 9.0]]
    assert [one.active for one in spread_by_importance(even, rows)] == [1, 1]  # a token keeps a choice in both
    free = spread_by_importance([layout(2, "groups")] * 2, rows)
    assert [one.active for one in free] == [1, 3]  # groups cost 9, 9, 9 and 13, 13, 13


def test_equal_heads_still_leave_the_total() -> None:
    assert sum(one.active for one in spread_by_importance([layout(4)] * 5, [[0.0] * 6] * 5)) == 20


@given(data=st.data(), choice=st.sampled_from(["free", "per_group", "groups"]), layers=st.integers(1, 6))
def test_the_whole_stays_and_no_layer_loses_much(data: st.DataObject, choice: Choice, layers: int) -> None:
    units = layout(1, choice).units
    active = data.draw(st.integers(1, units))
    even = [layout(active, choice)] * layers
    rows = data.draw(st.lists(st.lists(st.floats(0, 9), min_size=6, max_size=6), min_size=layers, max_size=layers))
    spread = spread_by_importance(even, rows)
    assert sum(one.active_heads for one in spread) == sum(one.active_heads for one in even)
    assert all(max(1, active - 1) <= one.active <= units for one in spread)


def test_importances_must_fit() -> None:
    with pytest.raises(UserError, match="do not fit"):
        spread_by_importance([layout(4)] * 2, [[0.0] * 6])
