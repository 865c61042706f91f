"""pass@k.

With n = 4: c = 1 gives pass@2 = 1 - C(3,2)/C(4,2) = 1 - 3/6 = 0.5; c = 4 gives 1; c = 0 gives 0; the mean of the
three is 0.5.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.evaluation.statistics import any_of_k, pass_at_k


def test_pass_at_k_by_hand() -> None:
    assert pass_at_k([1, 4, 0], samples=4, k=2) == pytest.approx(0.5)
    assert any_of_k([[False, True, True, True], [False] * 4, [True] * 4], k=1) == pytest.approx(1 / 3)


@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=8))
def test_the_two_pass_at_k_agree_when_all_samples_are_used(outcomes: list[list[bool]]) -> None:
    counts = [sum(row) for row in outcomes]
    assert pass_at_k(counts, samples=6, k=6) == pytest.approx(any_of_k(outcomes, k=6))
    assert pass_at_k(counts, samples=6, k=1) == pytest.approx(sum(counts) / (6 * len(counts)))
    values = [pass_at_k(counts, samples=6, k=k) for k in range(1, 7)]
    assert values == sorted(values)


def test_pass_at_k_is_unbiased() -> None:
    """The mean of any-of-2 over all pairs of 5 samples is what the estimator gives at once."""
    row = [True, False, False, True, False]
    pairs = [(row[i], row[j]) for i in range(5) for j in range(i)]
    assert pass_at_k([2], samples=5, k=2) == pytest.approx(sum(map(any, pairs)) / len(pairs))


@pytest.mark.parametrize(("correct", "samples", "k"), [([], 4, 1), ([1], 4, 5), ([1], 4, 0), ([5], 4, 1)])
def test_pass_at_k_refuses_impossible_counts(correct: list[int], samples: int, k: int) -> None:
    with pytest.raises(UserError):
        pass_at_k(correct, samples=samples, k=k)
