"""Judges' ratings beside experts': by hand, and the published ratings of four judges on 9,936 responses.

By hand, two conversations, one attribute. People: 1, 3 and 2, 2, 5; judge: 2, 4 and 3, 3, 3. Lean: (1 + 1 + 1 + 1 - 2)
/ 5 = 0.4. Pairs of one conversation that people rate 0.5 or more apart: (1, 3), (2, 5), (2, 5); the judge agrees on the
first and is tied on the two others: (1 + 0.5 + 0.5) / 3 = 2/3, ties 2/3.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.errors import UserError
from strop.evaluation.statistics import Interval, NotEstimable
from strop.judging.agreement import JudgeAgreement, judge_agreement
from strop.judging.rating_tables import Key, RatingTable, read_ratings

RATERS = ("gpt-4o", "gemini", "o4-mini", "claude")


def _generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _table(name: str, ratings: dict[tuple[str, str], tuple[float, ...]]) -> RatingTable:
    attributes = tuple(f"a{column}" for column in range(len(next(iter(ratings.values())))))
    return RatingTable(name, attributes, {Key(by, (item,)): row for (by, item), row in ratings.items()}, 0)


def _estimate(outcome: Interval | NotEstimable) -> float:
    assert isinstance(outcome, Interval)
    assert outcome.low <= outcome.estimate <= outcome.high
    return outcome.estimate


def test_agreement_by_hand() -> None:
    keys = [("c1", "x"), ("c1", "y"), ("c2", "x"), ("c2", "y"), ("c2", "z")]
    human = _table("human", dict(zip(keys, [(1.0,), (3.0,), (2.0,), (2.0,), (5.0,)], strict=True)))
    judge = _table("judge", dict(zip(keys, [(2.0,), (4.0,), (3.0,), (3.0,), (3.0,)], strict=True)))
    found = judge_agreement(human, judge, _generator())
    assert _estimate(found.lean) == pytest.approx(0.4)
    assert _estimate(found.pairs.agreement) == pytest.approx(2 / 3)
    assert _estimate(found.pairs.ties) == pytest.approx(2 / 3)
    assert (found.pairs.pairs, found.responses, found.conversations) == (3, 5, 2)
    assert found.ranges == ((1, 5), (2, 4))


def test_gap_is_met_by_means_that_rounding_spoils() -> None:
    """Means 2.3 and 1.8 differ by 0.5 although 2.3 - 1.8 is 0.49999... in floating point."""
    human = _table("human", {("c", "x"): (2.3,), ("c", "y"): (1.8,)})
    assert 2.3 - 1.8 < 0.5
    assert judge_agreement(human, human, _generator()).pairs.pairs == 1


def test_missing_ratings_are_left_out_in_pairs_and_counted() -> None:
    human = _table("human", {("c", "x"): (1, 2), ("c", "y"): (3, math.nan), ("d", "x"): (5, 5), ("d", "y"): (1, 1)})
    judge = _table("judge", {("c", "x"): (2, 2), ("c", "y"): (3, 4), ("d", "x"): (5, 5), ("e", "x"): (1, 1)})
    found = judge_agreement(human, judge, _generator())
    assert (found.responses, found.only_human, found.only_judge) == (3, 1, 1)
    assert [(each.n, each.left_out) for each in found.attributes] == [(3, 0), (2, 1)]
    assert _estimate(found.lean) == pytest.approx(1 / 5)
    assert found.pairs.left_out == 1
    assert isinstance(found.pairs.agreement, NotEstimable)


def test_what_cannot_be_compared_is_one_message() -> None:
    human, stranger = _table("human", {("c", "x"): (1,)}), _table("judge", {("d", "x"): (1,)})
    with pytest.raises(UserError, match="share no response"):
        judge_agreement(human, stranger, _generator())
    with pytest.raises(UserError, match="different attributes"):
        judge_agreement(human, _table("judge", {("c", "x"): (1, 2)}), _generator())
    with pytest.raises(UserError, match="gap must be above 0"):
        judge_agreement(human, human, _generator(), gap=0)


RATED = st.dictionaries(
    st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")),
    st.tuples(st.sampled_from([1.0, 2.0, 3.0, math.nan]), st.sampled_from([1.0, 4.0, 5.0])),
    min_size=1,
)


@settings(max_examples=40, deadline=None)
@given(RATED)
def test_a_judge_that_copies_people_agrees_with_them(ratings: dict[tuple[str, str], tuple[float, ...]]) -> None:
    human = _table("human", ratings)
    found = judge_agreement(human, human, _generator(), resamples=100)
    outcomes = [found.lean, found.pairs.agreement, found.pairs.ties]
    for outcome, expected in zip(outcomes, (0, 1, 0), strict=True):
        assert isinstance(outcome, NotEstimable) or outcome.estimate == expected
    for each in found.attributes:
        for outcome in (each.spearman, each.kappa, each.alpha):
            assert isinstance(outcome, NotEstimable) or outcome.estimate == pytest.approx(1)


@settings(max_examples=25, deadline=None)
@given(RATED)
def test_the_order_of_rows_changes_nothing(ratings: dict[tuple[str, str], tuple[float, ...]]) -> None:
    judge = {key: tuple(6 - value for value in row[::-1]) for key, row in ratings.items()}
    backwards = [dict(reversed(list(table.items()))) for table in (ratings, judge)]
    found = [
        judge_agreement(_table("human", human), _table("judge", rated), _generator(1), resamples=100)
        for human, rated in ((ratings, judge), (backwards[0], backwards[1]))
    ]
    assert found[0] == found[1]


@pytest.fixture(scope="module")
def published(shared_data: Path) -> dict[str, JudgeAgreement]:
    """Every judge of the published tables against the experts, with few draws: the estimates do not depend on them."""
    folder = shared_data / "counsel" / "mentalalign"
    tables = {
        name: read_ratings(folder / f"mentalalign_{name}.csv", name=name, by="conv", item=["model"])
        for name in ("human", *RATERS)
    }
    return {name: judge_agreement(tables["human"], tables[name], _generator(), resamples=200) for name in RATERS}


def test_the_published_ratings_give_the_known_figures(published: dict[str, JudgeAgreement]) -> None:
    """Mean lean over all attributes; pairs of one conversation whose seven-attribute means differ by 0.5 or more."""
    leans = [round(_estimate(published[name].lean), 2) for name in RATERS]
    agreement = [round(_estimate(published[name].pairs.agreement), 3) for name in RATERS]
    ties = [_estimate(published[name].pairs.ties) for name in RATERS]
    assert leans == [0.49, 0.42, 0.32, 0.24]
    assert agreement == [0.823, 0.806, 0.858, 0.826]
    assert (round(min(ties), 2), round(max(ties), 2)) == (0.09, 0.23)
    assert [published[name].responses for name in RATERS] == [9936, 9930, 9934, 9935]
    assert {published[name].conversations for name in RATERS} == {1000}


@pytest.mark.parametrize(
    ("attribute", "low", "high"),
    [("Guidance", 0.48, 0.55), ("Empathy", 0.36, 0.41), ("Safety", 0.16, 0.25), ("Relevance", 0.15, 0.22)],
)
def test_the_published_ratings_give_the_known_rank_correlations(
    published: dict[str, JudgeAgreement], attribute: str, low: float, high: float
) -> None:
    found = [
        _estimate(each.spearman)
        for judge in published.values()
        for each in judge.attributes
        if each.attribute == attribute
    ]
    assert (round(min(found), 2), round(max(found), 2)) == (low, high)


def test_experts_used_ratings_outside_the_scale(shared_data: Path, published: dict[str, JudgeAgreement]) -> None:
    """239 of the experts' 69,552 ratings are 0 or 6 on a scale of 1 to 5; stated, the scale makes them missing."""
    path = shared_data / "counsel" / "mentalalign" / "mentalalign_human.csv"
    human = read_ratings(path, name="human", by="conv", item=["model"], scale=(1, 5))
    assert human.off_scale == 239
    assert published["claude"].ranges == ((0, 6), (1, 5))
