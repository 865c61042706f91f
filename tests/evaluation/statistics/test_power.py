"""How many observations would settle it.

A share of 0.6 on n = 100 independent items: Wilson's half width is 0.0943, so its standard error is 0.0481 and the
spread of one item 0.481; to tell 0.6 from 0.5 with power 0.8: ((1.959964 + 0.841621) * 0.481 / 0.1)² = 181.7.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from strop.evaluation.statistics import Interval, items_needed, wilson


def test_items_needed_by_hand() -> None:
    assert items_needed(wilson(60, 100), 0.5) == 182


@pytest.mark.parametrize(
    "interval",
    [Interval(0.5, 0.4, 0.6, 100), Interval(0.7, 0.7, 0.7, 100), Interval(0.7, -math.inf, math.inf, 100)],
)
def test_no_number_where_none_follows(interval: Interval) -> None:
    assert items_needed(interval, 0.5) is None


@given(st.floats(0.001, 0.6), st.floats(0.01, 0.5), st.integers(5, 5000), st.sampled_from([0.5, 0.8, 0.95]))
def test_items_needed_is_the_normal_formula(effect: float, half: float, n: int, power: float) -> None:
    """Away from tiny sizes the other tail adds nothing and n = ((z of level + z of power) spread / effect)²."""
    spread = half / norm.ppf(0.975) * math.sqrt(n)
    expected = ((norm.ppf(0.975) + norm.ppf(power)) * spread / effect) ** 2
    needed = items_needed(Interval(0.5 + effect, 0.5 + effect - half, 0.5 + effect + half, n), 0.5, power=power)
    assert needed is not None
    assert needed == pytest.approx(max(2, math.ceil(expected)), rel=0.01, abs=2)


def test_what_is_needed_is_enough() -> None:
    """At the asked size the interval of the same share leaves out 0.5 with room: 1.96 of 2.80 standard errors."""
    needed = items_needed(wilson(55, 100), 0.5)
    assert needed is not None
    assert wilson(0.55 * needed, needed).excludes(0.5)
