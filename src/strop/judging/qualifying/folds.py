"""Cross-validation folds that never part a group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from strop.errors import UserError

Folds = NDArray[np.int64]
"""The number of each row's fold, 0 to folds - 1."""

FOLDS = 5


def group_folds(groups: Sequence[str], *, folds: int = FOLDS, seed: int = 0) -> Folds:
    """Return the fold in which each row is tested: scikit-learn's shuffled `GroupKFold`.

    Args:
        groups: The group of each row; rows of one group share a fold.
        folds: How many folds; with fewer groups than that, one fold a group.
        seed: Seed of the shuffle of groups.

    Raises:
        UserError: There are fewer than two groups.
    """
    from sklearn.model_selection import GroupKFold

    different = len(set(groups))
    if different < 2:
        raise UserError(
            "cross-validation by group needs at least two groups",
            value=f"{different} in {len(groups)} rows",
            fix="map the field that tells clients or prompts apart with --fields group=YOURS",
        )
    splitter = GroupKFold(min(folds, different), shuffle=True, random_state=seed)
    numbers: Folds = np.zeros(len(groups), dtype=np.int64)
    for number, (_, tested) in enumerate(splitter.split(numbers, groups=np.asarray(groups, dtype=object))):
        numbers[tested] = number
    return numbers
