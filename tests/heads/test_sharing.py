"""Choices of shared heads: by hand, and every choice makes a layout."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.heads.layout import Choice, HeadLayout
from strop.heads.sharing import (
    SHARINGS,
    Sharing,
    first_heads,
    heads_of_each_group,
    important_heads,
    shared_by_importance,
    shared_heads,
)

IMPORTANCE = [0.1, 0.9, 0.3, 0.8, 0.7, 0.2]


def test_the_papers_first_half() -> None:
    """16 of 32 heads; 4 of 9 free heads, but 1 whole group of 3."""
    assert first_heads(32, 8) == tuple(range(16))
    assert first_heads(9, 3) == (0, 1, 2, 3)
    assert first_heads(9, 3, choice="per_group") == (0, 1, 2)
    assert first_heads(8, 4, choice="groups", count=6) == (0, 1, 2, 3, 4, 5)


def test_some_of_each_group() -> None:
    assert heads_of_each_group(9, 3) == (0, 3, 6)
    assert heads_of_each_group(8, 2, each=3) == (0, 1, 2, 4, 5, 6)
    assert heads_of_each_group(8, 2, each=0) == ()


def test_the_most_important() -> None:
    """.9 .8 .7 of the layer; .9 and .8 of groups .1 .9 .3 and .8 .7 .2; sums 1.3 and 1.7; of pairs 1.0 1.1 .9."""
    assert important_heads(IMPORTANCE, 3, kv_groups=2) == (1, 3, 4)
    assert important_heads(IMPORTANCE, 2, kv_groups=2, choice="per_group") == (1, 3)
    assert important_heads(IMPORTANCE, 3, kv_groups=2, choice="groups") == (3, 4, 5)
    assert important_heads(IMPORTANCE, 2, kv_groups=3, choice="per_group", whole_groups=True) == (2, 3)
    assert shared_by_importance([IMPORTANCE, IMPORTANCE[::-1]], 1, kv_groups=2) == [(1,), (4,)]


def test_ties_go_to_the_lowest_head() -> None:
    assert important_heads([1.0] * 6, 2, kv_groups=2) == (0, 1)
    assert important_heads([1.0] * 6, 2, kv_groups=2, choice="per_group") == (0, 3)


@pytest.mark.parametrize(
    ("count", "choice"), [(7, "free"), (-1, "free"), (3, "per_group"), (2, "groups"), (8, "per_group")]
)
def test_counts_that_do_not_divide_are_refused(count: int, choice: Choice) -> None:
    with pytest.raises(UserError, match="cannot be shared"):
        important_heads(IMPORTANCE, count, kv_groups=2, choice=choice)


def test_what_is_no_importance_is_refused() -> None:
    with pytest.raises(UserError, match="no number"):
        important_heads([0.1, float("nan")], 1, kv_groups=2)
    for importance in (None, [IMPORTANCE], [IMPORTANCE[:5]] * 2):
        with pytest.raises(UserError, match="2 x 6 heads"):
            shared_heads("importance", layers=2, query_heads=6, kv_groups=2, choice="free", importance=importance)
    with pytest.raises(UserError, match="no such rule"):
        shared_heads("best", layers=2, query_heads=6, kv_groups=2, choice="free")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="cannot be shared"):
        shared_heads("per_group", layers=2, query_heads=6, kv_groups=2, choice="free", count=3)
    with pytest.raises(UserError, match="cannot be shared"):
        first_heads(8, 2, choice="per_group", count=2)


@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.sampled_from(SHARINGS),
    st.sampled_from(["free", "per_group", "groups"]),
    st.data(),
)
def test_every_rule_makes_a_layout(groups: int, size: int, rule: Sharing, choice: Choice, data: st.DataObject) -> None:
    """One of each group cuts groups where those are chosen whole; every other default is a layout."""
    heads = groups * size
    table = [data.draw(st.lists(st.floats(-1, 1), min_size=heads, max_size=heads)) for _ in range(2)]
    found = shared_heads(rule, layers=2, query_heads=heads, kv_groups=groups, choice=choice, importance=table)
    assert len(found) == 2
    for shared in found:
        if rule == "per_group" and choice == "groups" and size > 1:
            with pytest.raises(UserError, match="cut a KV group"):
                HeadLayout(query_heads=heads, kv_groups=groups, shared=shared, active=0, choice=choice)
        else:
            HeadLayout(query_heads=heads, kv_groups=groups, shared=shared, active=0, choice=choice)
