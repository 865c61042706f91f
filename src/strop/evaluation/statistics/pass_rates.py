"""The chance that one of k samples is right, estimated without bias and as the paper counts it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from strop.errors import UserError


def pass_at_k(correct: Sequence[int], samples: int, k: int) -> float:
    """Return the unbiased estimate of pass@k (Chen et al. 2021): the mean over questions of 1 - C(n-c,k)/C(n,k).

    Args:
        correct: For each question, how many of its `samples` answers are right.
        samples: Answers a question, n.
        k: Answers that are allowed, 1 to n.

    Raises:
        UserError: `k` or a count is out of range, or there is no question.
    """
    _check_counts(correct, samples, k)
    ways = math.comb(samples, k)
    return sum(1 - math.comb(samples - count, k) / ways for count in correct) / len(correct)


def any_of_k(outcomes: Sequence[Sequence[bool]], k: int) -> float:
    """Return the paper's pass@k: the share of questions with a right answer among the first `k` samples.

    Differs from `pass_at_k` when there are more than `k` samples: it uses the first `k` only and has more variance.
    """
    for row in outcomes:
        _check_counts([sum(row)], len(row), k)
    if not outcomes:
        raise UserError("pass@k needs at least one question")
    return sum(any(row[:k]) for row in outcomes) / len(outcomes)


def _check_counts(correct: Sequence[int], samples: int, k: int) -> None:
    if not len(correct):
        raise UserError("pass@k needs at least one question")
    if not 1 <= k <= samples:
        raise UserError("pass@k needs at least k samples a question", value=f"k = {k}, {samples} samples")
    if any(not 0 <= count <= samples for count in correct):
        raise UserError("a question has more right answers than samples", value=max(correct))
