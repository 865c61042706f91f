"""Disjoint halves of a training set: one trains the weak model with gold, the other gives questions only."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

from strop.errors import UserError

Item = TypeVar("Item")

GSM8K_TRAIN_SIZE = 7473
GSM8K_FIRST_PART = 3736


def gsm8k_official_split() -> tuple[list[int], list[int]]:
    """Return the published split of GSM8K's official training set: ascending indices of both parts.

    The first part (3,736 questions) belongs to train_1, which trains the weak model; the second (3,737) to train_2.
    """
    first = sorted(Random(42).sample(range(GSM8K_TRAIN_SIZE), GSM8K_FIRST_PART))
    taken = set(first)
    return first, [index for index in range(GSM8K_TRAIN_SIZE) if index not in taken]


def disjoint_split(items: Sequence[Item], *, first: int, random: Random) -> tuple[list[Item], list[Item]]:
    """Split `items` at random into a part of `first` items and the rest; both keep the order of `items`.

    Differs from the published split: items that are equal never fall on different sides, so that no question trains
    the weak model and is asked of it again. The first part may be smaller than `first` by part of one such group.

    Raises:
        UserError: `first` is not between 0 and the number of items.
    """
    if not 0 <= first <= len(items):
        raise UserError(f"the first part must have 0 to {len(items)} items", value=first)
    groups: dict[Item, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(item, []).append(index)
    shuffled = list(groups.values())
    random.shuffle(shuffled)
    taken: set[int] = set()
    for group in shuffled:
        if len(taken) + len(group) <= first:
            taken.update(group)
    return (
        [item for index, item in enumerate(items) if index in taken],
        [item for index, item in enumerate(items) if index not in taken],
    )
