"""Performance gap recovered, by hand-worked numbers, verdicts and properties.

Floor 0.4, model 0.7, ceiling 0.9 give 0.3 / 0.5 = 0.6.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.errors import UserError
from strop.evaluation.statistics import FEWEST_ITEMS, GapRecovered, Interval, gap_recovered, mean_interval


def _generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _first(n: int, right: int) -> np.ndarray:
    return (np.arange(n) < right).astype(float)


def test_gap_recovered_by_hand() -> None:
    result = gap_recovered(_first(1000, 400), _first(1000, 700), _first(1000, 900), _generator())
    assert result.recovered is not None
    assert result.recovered.estimate == pytest.approx(0.6)
    assert result.recovered.low < 0.6 < result.recovered.high
    assert result.gap.estimate == pytest.approx(0.5)
    assert result.gain.estimate == pytest.approx(0.3)
    assert (result.verdict, result.seeds, result.items, result.needed) == ("recovers", 1, 1000, None)


def test_no_recovery_is_a_verdict() -> None:
    """A model equal to the floor recovers nothing, and 2,000 items are enough to say so."""
    floor = _first(2000, 800)
    result = gap_recovered(floor, floor, _first(2000, 1800), _generator())
    assert result.verdict == "does not recover"


def test_a_model_below_the_floor_does_not_recover() -> None:
    assert (
        gap_recovered(_first(500, 200), _first(500, 100), _first(500, 400), _generator()).verdict == "does not recover"
    )


def test_a_vanishing_gap_cannot_tell_and_does_not_explode() -> None:
    rng = _generator(3)
    floor, model, ceiling = (rng.random((5, 400)) < share for share in (0.5, 0.9, 0.505))
    result = gap_recovered(floor, model, ceiling, rng)
    assert result.verdict == "cannot tell at this n"
    assert result.recovered is None
    assert result.gap.low < 0 < result.gap.high


def test_few_items_pass_no_verdict() -> None:
    result = gap_recovered(np.zeros(5), np.ones(5), np.ones(5), _generator())
    assert result.verdict == "cannot tell at this n"
    assert result.needed is not None
    assert result.needed.items == FEWEST_ITEMS


def test_what_would_be_needed_is_enough() -> None:
    """Effect 0.05 on 200 items is not found; on the number of items that the verdict asks for, it mostly is."""
    rng = _generator(5)

    def arms(items: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return rng.random(items) < 0.5, rng.random(items) < 0.55, rng.random(items) < 0.9

    results = [gap_recovered(*arms(200), rng, resamples=400) for _ in range(20)]
    asked = [result.needed.items for result in results if result.needed is not None and result.needed.items is not None]
    assert len(asked) > 5
    assert all(items > 200 for items in asked)
    # Twice 1.96² * 2 * 0.25 / 0.05² = 768 items leave power to spare.
    found = [gap_recovered(*arms(3000), rng, resamples=400).verdict == "recovers" for _ in range(10)]
    assert sum(found) >= 9


def test_missing_outcomes_are_never_zero() -> None:
    floor, model, ceiling = _first(100, 40), _first(100, 70), _first(100, 90)
    holes = model.copy()
    holes[::10] = math.nan
    result = gap_recovered(floor, holes, ceiling, _generator())
    assert result.left_out == 10
    kept = ~np.isnan(holes)
    assert result.gain.estimate == pytest.approx(model[kept].mean() - floor[kept].mean())


def test_arms_of_different_shape_are_refused() -> None:
    with pytest.raises(UserError, match="same seeds and items"):
        gap_recovered(np.zeros((2, 5)), np.zeros((2, 5)), np.zeros((2, 6)), _generator())
    with pytest.raises(UserError, match="no item is graded"):
        mean_interval([math.nan, math.nan], _generator())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(20, 60), st.booleans())
def test_gap_recovered_properties(seed: int, seeds: int, items: int, same_items: bool) -> None:
    """The ceiling recovers 1 and the floor 0; the same generator gives the same result; intervals are ordered."""
    rng = _generator(seed)
    floor, ceiling = rng.random((seeds, items)) < 0.3, rng.random((seeds, items)) < 0.9

    def recovered(model: np.ndarray) -> GapRecovered:
        return gap_recovered(floor, model, ceiling, _generator(seed), resamples=100, same_items=same_items)

    top = recovered(ceiling)
    assert top == recovered(ceiling)
    if top.recovered is not None:
        assert top.recovered == Interval(1.0, 1.0, 1.0, seeds * items)
    bottom = recovered(floor)
    assert bottom.recovered is None or bottom.recovered.estimate == 0.0
    assert bottom.verdict != "recovers"
    assert top.gap.low <= top.gap.high
