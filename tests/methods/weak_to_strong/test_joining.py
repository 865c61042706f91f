"""Rows about the same questions meet by id, in any order, and nothing is ever cut to fit."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.methods.weak_to_strong.joining import join_by_id
from strop.records import Identifier, Question

NAMES = ("left.jsonl", "right.jsonl")
IDS = st.lists(st.integers(-5, 30) | st.text(max_size=2), unique=True)


def rows(ids: list[Identifier], side: str = "") -> list[Question]:
    return [Question(identifier, f"{side}{identifier}") for identifier in ids]


@given(IDS, st.randoms(use_true_random=False))
def test_every_row_meets_its_partner_in_the_order_of_the_first(ids: list[Identifier], random: Random) -> None:
    shuffled = random.sample(ids, len(ids))
    joined = list(join_by_id(rows(ids, "l"), rows(shuffled, "r"), names=NAMES))
    assert [left.id for left, _ in joined] == ids
    assert all((left.text, right.text) == (f"l{left.id}", f"r{left.id}") for left, right in joined)


@given(IDS, IDS)
def test_it_joins_iff_the_ids_are_the_same(first: list[Identifier], second: list[Identifier]) -> None:
    if set(first) == set(second):
        assert len(list(join_by_id(rows(first), rows(second), names=NAMES))) == len(first)
        return
    with pytest.raises(UserError, match="missing from"):
        list(join_by_id(rows(first), rows(second), names=NAMES))


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        ([0, 1, 2], [0, 2], "1 ids of left.jsonl are missing from right.jsonl: 1"),
        ([0, 2], [0, 1, 2], "1 ids of right.jsonl are missing from left.jsonl: 1"),
        ([0, 1], [0], "1 ids of left.jsonl are missing from right.jsonl: 1"),
        ([], [7, 8], "2 ids of right.jsonl are missing from left.jsonl: 7, 8"),
        ([0], ["0"], "1 ids of left.jsonl are missing from right.jsonl: 0"),
        (list(range(12)), [], "12 ids of left.jsonl .*: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ..."),
        ([0, 0], [0], "left.jsonl: id 0 occurs more than once"),
        ([0, 1, 0], [1, 0], "left.jsonl: id 0 occurs more than once"),
        ([5, 5], [0], "left.jsonl: id 5 occurs more than once"),
        ([0, 1], [0, 0, 1], "right.jsonl: id 0 occurs more than once"),
        ([0, 1], [1, 1, 0], "right.jsonl: id 1 occurs more than once"),
        ([0, 1], [0, 1, 1], "right.jsonl: id 1 occurs more than once"),
    ],
)
def test_what_does_not_match_is_named(left: list[Identifier], right: list[Identifier], message: str) -> None:
    with pytest.raises(UserError, match=message):
        list(join_by_id(rows(left), rows(right), names=NAMES))


def test_files_in_the_same_order_are_read_in_step() -> None:
    """Neither side is read ahead of the pair that is asked for: memory does not grow with the files."""
    read: list[str] = []

    def watched(side: str) -> Iterator[Question]:
        for number in range(3):
            read.append(f"{side}{number}")
            yield Question(number, "")

    joined = join_by_id(watched("l"), watched("r"), names=NAMES)
    next(joined)
    assert read == ["l0", "r0"]
    next(joined)
    assert read == ["l0", "r0", "l1", "r1"]
