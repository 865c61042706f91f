"""Exact paired tests.

McNemar: 8 items only the first has right, 2 only the second: two-sided binomial p = 2 (1 + 10 + 45) / 1024 = 0.109375.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.evaluation.statistics import compare_paired, sign_test


def test_mcnemar_by_hand() -> None:
    first, second = np.zeros(100), np.zeros(100)
    first[:8], second[8:10] = 1, 1
    comparison = compare_paired(first, second)
    assert (comparison.only_first, comparison.only_second, comparison.n) == (8, 2, 100)
    assert comparison.p_value == pytest.approx(0.109375)
    assert comparison.difference.estimate == pytest.approx(0.06)
    assert not comparison.distinguishable
    # Connor: (1.959964 * sqrt(0.1) + 0.841621 * sqrt(0.1 - 0.0036))² / 0.0036 = 215.53
    assert comparison.items_needed == 216


def test_equal_columns_have_no_difference() -> None:
    comparison = compare_paired([1, 0, 1], [1, 0, 1])
    assert (comparison.p_value, comparison.items_needed) == (1.0, None)
    assert comparison.difference.low < 0 < comparison.difference.high


def test_ungraded_items_are_left_out_of_both_columns() -> None:
    comparison = compare_paired([1, math.nan, 1, 0], [0, 1, 1, math.nan])
    assert (comparison.n, comparison.left_out, comparison.only_first, comparison.only_second) == (2, 2, 1, 0)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_paired_comparison_is_antisymmetric(pairs: list[tuple[bool, bool]]) -> None:
    first, second = zip(*pairs, strict=True)
    forward, backward = compare_paired(first, second), compare_paired(second, first)
    assert forward.difference.estimate == -backward.difference.estimate
    assert forward.difference.low == pytest.approx(-backward.difference.high)
    assert forward.p_value == pytest.approx(backward.p_value)


def test_sign_test_by_hand() -> None:
    """8 wins, 2 losses: p = 2 (1 + 10 + 45) / 1024 = 0.109375; the ties change neither p nor the share."""
    test = sign_test(8, 2, ties=5)
    assert (test.n, test.ties) == (15, 5)
    assert test.p_value == pytest.approx(0.109375)
    assert test.share is not None
    assert (test.share.estimate, test.share.n) == (0.8, 10)


def test_a_sign_test_without_decisions_tells_nothing() -> None:
    test = sign_test(0, 0, ties=7)
    assert (test.p_value, test.share, test.n) == (1.0, None, 7)
    with pytest.raises(UserError, match="are counts"):
        sign_test(-1, 2)


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_sign_test_and_its_interval_agree(wins: int, losses: int) -> None:
    test, other = sign_test(wins, losses), sign_test(losses, wins)
    assert test.p_value == pytest.approx(other.p_value)
    if test.share is None or other.share is None:
        assert wins + losses == 0
        return
    assert test.share.low == pytest.approx(1 - other.share.high)
    if abs(test.p_value - 0.05) > 1e-9:
        assert test.share.excludes(0.5) == (test.p_value < 0.05)
