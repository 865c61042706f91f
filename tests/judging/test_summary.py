"""Summaries by hand: shares, flips, the lean to the response shown first, halos, and figures without data."""

from __future__ import annotations

import pytest

from strop.judging.expected import Expectation, ExpectedRating
from strop.judging.judge import Comparison, OrderVerdict, settled
from strop.judging.parsing import ParseFailure
from strop.judging.rating import rated
from strop.judging.rubric import load_rubric
from strop.judging.summary import summarise_comparisons, summarise_expected, summarise_ratings

RUBRIC = load_rubric("reasoning-v1")
FAILED = ParseFailure("missing", "")


def comparison(number: int, forward: OrderVerdict, backward: OrderVerdict) -> Comparison:
    return Comparison(number, settled(forward, backward), forward, backward)


def test_comparisons() -> None:
    """Four pairs: agreed first, agreed second, flipped to the shown first, failed backward.

    Wins of the first, ties as halves: (1 + 0 + .5) / 3. Flips 1 of 3. Shown first: (.5 + .5 + 1) / 3. Failures 1 of 8.
    """
    rows: list[tuple[OrderVerdict, OrderVerdict]] = [
        ("first", "first"),
        ("second", "second"),
        ("first", "second"),
        ("first", FAILED),
    ]
    found = summarise_comparisons([comparison(n, *row) for n, row in enumerate(rows)], groups=range(4))
    assert (found.n, found.first, found.second, found.ties, found.failed) == (4, 1, 1, 1, 1)
    assert found.first_share is not None
    assert found.flips is not None
    assert found.shown_first is not None
    assert found.failures is not None
    assert found.first_share.estimate == pytest.approx(0.5)
    assert found.flips.estimate == pytest.approx(1 / 3)
    assert found.flips.n == 3
    assert found.shown_first.estimate == pytest.approx(2 / 3)
    assert found.failures.estimate == pytest.approx(1 / 8)
    assert found.failure_kinds == {"missing": 1}


def test_a_judge_that_always_fails_has_no_figures() -> None:
    found = summarise_comparisons([comparison(0, FAILED, FAILED)], groups=[0])
    assert (found.first_share, found.flips, found.shown_first) == (None, None, None)
    assert found.failures is not None
    assert found.failures.estimate == 1.0


def test_ratings() -> None:
    """Means 3.4 and 2 of two complete responses; one of twelve ratings is missing."""
    rows: list[tuple[int | ParseFailure, ...]] = [(4, 3, 3, 3), (2, 2, 2, 2), (5, 5, 5, FAILED)]
    ratings = [
        rated(n, dict(zip(RUBRIC.keys, row, strict=True)), rubric=RUBRIC, order=RUBRIC.keys)
        for n, row in enumerate(rows)
    ]
    found = summarise_ratings(ratings, rubric=RUBRIC, groups=range(3))
    assert (found.n, found.complete, found.gate_unknown) == (3, 2, 0)
    assert found.mean is not None
    assert found.mean.estimate == pytest.approx(2.7)
    clarity, correctness = found.means["clarity"], found.means["correctness"]
    assert clarity is not None
    assert correctness is not None
    assert (clarity.estimate, clarity.n) == (2.5, 2)
    assert correctness.estimate == pytest.approx(11 / 3)
    assert found.failures is not None
    assert found.failures.estimate == pytest.approx(1 / 12)
    assert found.correlation is None


def test_a_judge_that_sees_one_property_is_told() -> None:
    ratings = [rated(n, dict.fromkeys(RUBRIC.keys, 1 + n % 5), rubric=RUBRIC, order=RUBRIC.keys) for n in range(20)]
    found = summarise_ratings(ratings, rubric=RUBRIC, groups=range(20))
    assert found.correlation == pytest.approx(1.0)


def test_expected_ratings_have_intervals_and_say_how_much_of_the_vocabulary_they_rest_on() -> None:
    """Values 2 and 4 in two groups: mean 3; masses .5 and .7: mean .6."""
    rubric = load_rubric("reasoning-v1")

    def rating(number: int, value: float, mass: float) -> ExpectedRating:
        values = {key: Expectation(value, (0.2,) * 5, mass) for key in rubric.keys}
        return ExpectedRating(number, values, value, "passed")

    told = summarise_expected([rating(0, 2.0, 0.5), rating(1, 4.0, 0.7)], rubric=rubric, groups=["a", "b"])
    mean, mass = told.means["clarity"], told.masses["clarity"]
    assert mean is not None
    assert mass is not None
    assert (mean.estimate, round(mass.estimate, 9), mean.n) == (3.0, 0.6, 2)
    assert mean.low < 3.0 < mean.high <= 5.0
