"""The jackknife against the textbook: of a mean it is the t interval."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from strop.evaluation.statistics import jackknife


def test_of_a_mean_it_is_the_t_interval() -> None:
    values = np.random.default_rng(0).normal(size=12)
    without = [float(np.delete(values, place).mean()) for place in range(12)]
    found = jackknife(float(values.mean()), without, n=12)
    low, high = stats.t.interval(0.95, 11, loc=values.mean(), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.n, found.groups) == (12, 12)


@pytest.mark.parametrize("without", [[], [1.0]])
def test_one_group_bounds_nothing(without: list[float]) -> None:
    found = jackknife(0.5, without, n=3)
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert not found.excludes(0.0)
