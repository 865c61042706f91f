"""Wilson's interval.

8 of 10 at 95 %: z = 1.959964, z² = 3.841459; centre (0.8 + 0.1920729) / 1.3841459 = 0.716740; half width
1.959964 / 1.3841459 * sqrt(0.016 + 0.0096036) = 0.226577; so 0.490162 to 0.943318.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from strop.errors import UserError
from strop.evaluation.statistics import wilson


def test_wilson_by_hand() -> None:
    interval = wilson(8, 10)
    assert (interval.estimate, interval.n) == (0.8, 10)
    assert interval.low == pytest.approx(0.490162, abs=1e-6)
    assert interval.high == pytest.approx(0.943318, abs=1e-6)


@given(st.integers(1, 5000), st.data(), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_wilson_equals_scipy(n: int, data: st.DataObject, level: float) -> None:
    right = data.draw(st.integers(0, n))
    expected = binomtest(right, n).proportion_ci(level, method="wilson")
    interval = wilson(right, n, level=level)
    assert interval.low == pytest.approx(expected.low, abs=1e-12)
    assert interval.high == pytest.approx(expected.high, abs=1e-12)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


@pytest.mark.parametrize(("right", "n"), [(0, 0), (3, 2), (-1, 4)])
def test_wilson_refuses_impossible_counts(right: int, n: int) -> None:
    with pytest.raises(UserError, match="share needs trials"):
        wilson(right, n)


def test_wilson_covers_at_its_nominal_rate() -> None:
    """The exact coverage of the 95 % interval, summed over all outcomes of n = 40, is 0.95 on average over shares.

    At a single share it swings by a few points (Brown, Cai & DasGupta 2001); nowhere here does it fall below 0.90.
    """
    n, shares = 40, np.linspace(0.02, 0.98, 97)
    intervals = [wilson(right, n) for right in range(n + 1)]
    coverage = [
        sum(binom.pmf(right, n, share) for right, each in enumerate(intervals) if not each.excludes(share))
        for share in shares
    ]
    assert min(coverage) > 0.90
    assert np.mean(coverage) == pytest.approx(0.95, abs=0.01)


@given(st.floats(0, 1), st.floats(0.5, 500))
def test_wilson_takes_effective_counts(share: float, n: float) -> None:
    interval = wilson(share * n, n)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
