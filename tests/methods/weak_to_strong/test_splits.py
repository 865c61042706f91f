"""Splits: the published one, and disjoint ones of any data."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.methods.weak_to_strong.splits import disjoint_split, gsm8k_official_split


def test_gsm8k_split_sizes() -> None:
    first, second = gsm8k_official_split()
    assert (len(first), len(second)) == (3736, 3737)
    assert sorted([*first, *second]) == list(range(7473))


def test_gsm8k_split_is_the_published_one(published: Any) -> None:
    for name, part in zip(("train_1", "train_2"), gsm8k_official_split(), strict=True):
        ids = [row["id"] for row in published(f"gsm8k/{name}.jsonl")]
        assert [f"gsm8k_{index}" for index in part] == [identifier for identifier in ids if "gsm8k" in identifier]


@given(st.lists(st.integers(0, 9)), st.data())
def test_split_is_complete_ordered_and_disjoint(items: list[int], data: st.DataObject) -> None:
    size = data.draw(st.integers(0, len(items)))
    first, second = disjoint_split(items, first=size, random=Random(0))
    assert sorted([*first, *second]) == sorted(items)
    assert not set(first) & set(second)
    assert len(first) <= size
    assert first == [item for item in items if item in set(first)]


def test_split_of_distinct_items_has_the_wanted_size() -> None:
    first, second = disjoint_split(list("abcdefgh"), first=3, random=Random(1))
    assert (len(first), len(second)) == (3, 5)


def test_split_refuses_more_than_there_is() -> None:
    with pytest.raises(UserError, match="0 to 2 items"):
        disjoint_split(["a", "b"], first=3, random=Random(0))
