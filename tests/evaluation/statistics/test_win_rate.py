"""Length-controlled win rates: a copy that only pads, symmetry to the last bit, coverage, parity with statsmodels."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import statsmodels.api
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from strop.errors import UserError
from strop.evaluation.statistics import Interval, NotEstimable, WinRate, length_controlled_win_rate
from strop.evaluation.statistics.win_rate import SLOPE_PENALTY, fit_length_curve

Floats = NDArray[np.float64]
JUDGES: dict[str, Callable[[Floats], Floats]] = {
    "linear": lambda difference: expit(0.008 * difference),
    "saturating": lambda difference: expit(1.5 * np.tanh(difference / 150)),
    "longer three times in four": lambda difference: 0.5 + 0.25 * np.sign(difference),
    "always longer": lambda difference: 0.5 + 0.5 * np.sign(difference),
}


def _generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _judged(chances: Floats, generator: np.random.Generator) -> Floats:
    return np.where(chances == 0.5, 0.5, generator.random(len(chances)) < chances)


def _controlled(rate: WinRate) -> Interval:
    assert isinstance(rate.length_controlled, Interval)
    return rate.length_controlled


@pytest.mark.parametrize("judge", sorted(JUDGES))
def test_padding_alone_earns_nothing(judge: str) -> None:
    """Responses of equal quality, about 100 words longer on average (sd 120): raw 0.64 to 0.80, controlled 0.5.

    Five samples of 1,000 duels: a controlled rate has a standard error of 0.025 to 0.05, their mean 0.011 to 0.022, and
    the mean is held to 0.05.
    """
    generator, rates = _generator(7), []
    for _ in range(5):
        differences = np.round(generator.normal(100, 120, 1000))
        outcomes = _judged(JUDGES[judge](differences), generator)
        rate = length_controlled_win_rate(outcomes, differences, list(range(1000)), generator, resamples=50)
        assert 0.58 < rate.raw.estimate < 0.85
        assert rate.raw.excludes(0.5)
        rates.append(_controlled(rate).estimate)
    assert np.mean(rates) == pytest.approx(0.5, abs=0.05)


def test_a_pure_copy_that_is_never_shorter() -> None:
    """Padding of 0 to several hundred words on an identical text: equal length lies at the edge of the data.

    With a judge whose liking saturates the curve still finds 0.5 within its error; the rate is marked as one-sided.
    """
    generator = _generator(8)
    differences = np.round(generator.exponential(100, 3000))
    outcomes = _judged(JUDGES["saturating"](differences), generator)
    rate = length_controlled_win_rate(outcomes, differences, list(range(3000)), generator, resamples=100)
    assert rate.one_sided
    assert rate.raw.low > 0.6
    assert not _controlled(rate).excludes(0.5)


def test_quality_survives_the_control() -> None:
    """A truly better contestant (log-odds 1, rate 0.731 at equal length) that also pads is not levelled down."""
    generator = _generator(9)
    differences = generator.normal(80, 120, 3000)
    outcomes = _judged(expit(1 + 1.2 * np.tanh(differences / math.sqrt(80**2 + 120**2))), generator)
    rate = length_controlled_win_rate(outcomes, differences, list(range(3000)), generator, resamples=50)
    assert rate.raw.estimate > 0.76
    assert _controlled(rate).estimate == pytest.approx(expit(1), abs=0.03)
    assert rate.slope == pytest.approx(1.2, abs=0.3)


def test_identical_outputs_give_one_half_exactly() -> None:
    rate = length_controlled_win_rate([0.5] * 30, [0] * 30, list(range(30)), _generator())
    assert rate.raw.estimate == _controlled(rate).estimate == rate.longer == 0.5
    assert (rate.ties, rate.n, rate.slope) == (30, 30, None)


@pytest.mark.parametrize(
    ("outcomes", "differences", "match"),
    [
        ([1, 1, 1], [1, -2, 3], "won every duel"),
        ([0, 0, 0], [1, -2, 3], "won every duel"),
        ([1, 0, 1], [5] * 3, "same"),
    ],
)
def test_no_rate_is_a_reason(outcomes: list[float], differences: list[float], match: str) -> None:
    rate = length_controlled_win_rate(outcomes, differences, list("abc"), _generator())
    assert isinstance(rate.length_controlled, NotEstimable)
    assert match in rate.length_controlled.reason
    assert 0 <= rate.raw.low <= rate.raw.high <= 1


def test_failed_judgements_are_left_out() -> None:
    rate = length_controlled_win_rate([1, math.nan, 0, 0.5], [3, 1, math.nan, -2], list("abcd"), _generator())
    assert (rate.n, rate.left_out, rate.ties) == (2, 2, 1)


@pytest.mark.parametrize(
    ("outcomes", "differences", "match"),
    [([1, 0], [1], "needs its length"), ([2, 0], [1, 2], "0, 1/2 or 1"), ([math.nan], [1], "no row is complete")],
)
def test_unusable_input_is_one_message(outcomes: list[float], differences: list[float], match: str) -> None:
    with pytest.raises(UserError, match=match):
        length_controlled_win_rate(outcomes, differences, ["a"] * len(outcomes), _generator())


DUELS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0, math.nan]), st.integers(-300, 300), st.integers(0, 6)),
    min_size=1,
    max_size=40,
).filter(lambda duels: any(not math.isnan(duel[0]) for duel in duels))


def _rate(duels: list[tuple[float, int, int]], *, swapped: bool = False) -> WinRate:
    outcomes = [outcome for outcome, _, _ in duels]
    differences, groups = ([duel[place] for duel in duels] for place in (1, 2))
    if swapped:
        outcomes, differences = [1 - outcome for outcome in outcomes], [-each for each in differences]
    return length_controlled_win_rate(outcomes, differences, groups, _generator(5), resamples=30)


@settings(max_examples=100, deadline=None)
@given(DUELS)
def test_swapping_the_contestants_is_exact(duels: list[tuple[float, int, int]]) -> None:
    """The other side's rates are 1 - rate and its ends 1 - the other ends, to the last bit."""
    rate, other = _rate(duels), _rate(duels, swapped=True)
    assert rate.longer == 1 - other.longer
    outcomes = [(rate.raw, other.raw)]
    if isinstance(rate.length_controlled, NotEstimable):
        assert rate.length_controlled == other.length_controlled
    else:
        outcomes.append((_controlled(rate), _controlled(other)))
    for mine, theirs in outcomes:
        assert (mine.estimate, mine.low, mine.high) == (1 - theirs.estimate, 1 - theirs.high, 1 - theirs.low)
        assert 0 <= mine.low <= mine.high <= 1


@settings(max_examples=80, deadline=None)
@given(DUELS.flatmap(lambda duels: st.tuples(st.just(duels), st.permutations(duels))))
def test_the_order_of_duels_changes_nothing(orders: tuple[list[tuple[float, int, int]], ...]) -> None:
    assert _rate(orders[0]) == _rate(orders[1])


def test_the_curve_equals_statsmodels() -> None:
    """One fit against statsmodels' binomial model with outcomes of 1/2; the penalty moves the third digit at most."""
    generator = _generator(3)
    lengths = np.tanh(generator.normal(0.5, 1, 500))
    outcomes = np.where(generator.random(500) < 0.2, 0.5, generator.random(500) < expit(0.3 + lengths))
    family = statsmodels.api.families.Binomial()
    model = statsmodels.api.GLM(outcomes, statsmodels.api.add_constant(lengths), family=family).fit()
    constant, slope = fit_length_curve(2 * outcomes - 1, lengths, np.ones((1, 500)))
    assert [constant[0], slope[0]] == pytest.approx(model.params.tolist(), abs=2e-3)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([-1.0, 0.0, 1.0]), st.floats(-1, 1), st.integers(0, 3)), min_size=2, max_size=25)
)
def test_the_curve_is_the_penalised_maximum(duels: list[tuple[float, float, int]]) -> None:
    """Also where wins and losses are separated by length: against scipy's minimiser of the same loss."""
    signs, lengths, weights = np.array(duels, dtype=float).T
    constant, slope = fit_length_curve(signs, lengths, weights[None])
    if not math.isfinite(constant[0]) or weights.sum() == 0 or abs(weights @ signs) == weights.sum():
        assert weights.sum() == 0 or math.isinf(constant[0])
        return

    def loss(parameters: Floats) -> float:
        scores = parameters[0] + parameters[1] * lengths
        shares = (1 + signs) / 2
        log_likelihood = -(shares * np.logaddexp(0, -scores) + (1 - shares) * np.logaddexp(0, scores))
        return float(-(weights @ log_likelihood) + SLOPE_PENALTY / 2 * parameters[1] ** 2)

    found = loss(np.array([constant[0], slope[0]]))
    assert found <= minimize(loss, np.zeros(2), method="BFGS").fun + 1e-6


def test_controlled_rates_cover_at_their_nominal_rate() -> None:
    """R = 150 samples of 60 prompts with 1 to 4 duels, prompts of their own lean; truth by a million duels at length 0.

    Central 99.9 % of Binomial(150, 0.95): 132 to 150.
    """
    generator, covered = _generator(12), 0
    leans = generator.normal(0, 0.5, 1_000_000)
    truth = float(expit(0.4 + leans).mean())
    for _ in range(150):
        members = np.repeat(np.arange(60), generator.integers(1, 5, 60))
        differences = generator.normal(80, 120, len(members))
        lean = generator.normal(0, 0.5, 60)[members]
        outcomes = _judged(expit(0.4 + lean + 1.0 * np.tanh(differences / 144.2)), generator)
        rate = length_controlled_win_rate(outcomes, differences, members.tolist(), generator, resamples=150)
        covered += not _controlled(rate).excludes(truth)
    assert 132 <= covered <= 150
