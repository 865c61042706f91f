"""Votes: exact shares, ties to the first seen, no answer as an answer of its own."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.methods.weak_to_strong.agreement import AnswerRule
from strop.methods.weak_to_strong.voting import exact, vote

PLAIN = AnswerRule(str)
BY_VALUE = AnswerRule(str, lambda predicted, reference: float(predicted) == float(reference))


@pytest.mark.parametrize(
    ("responses", "majority", "count"),
    [
        (["a"], "a", 1),
        (["a", "b", "b"], "b", 2),
        (["b", "a", "a", "b"], "b", 2),
        (["a", "b", "b", "a"], "a", 2),
        (["", "", "a"], "", 2),
        (["a", "", "", "a"], "a", 2),
        (["", ""], "", 2),
        (["a", "b", "c"], "a", 1),
    ],
)
def test_majority_and_ties(responses: list[str], majority: str, count: int) -> None:
    decided = vote(responses, PLAIN)
    assert decided.majority == majority
    assert decided.confidence == Fraction(count, len(responses))


def test_sides_keep_the_sample_order_and_repetitions() -> None:
    decided = vote(["x", "y", "x", "z", "y", "x"], PLAIN)
    assert decided.positives == ("x", "x", "x")
    assert decided.negatives == ("y", "z", "y")


def test_values_are_counted_together_where_the_rule_compares_values() -> None:
    """As strings 0.5, 0.50 and 1 are three answers; as values the first two are one, with the first one's spelling."""
    responses = ["1", "0.5", "0.50", "1", "0.500"]
    assert vote(responses, PLAIN).majority == "1"
    assert vote(responses, BY_VALUE).majority == "0.5"
    assert vote(responses, BY_VALUE).positives == ("0.5", "0.50", "0.500")


def test_no_response_is_refused() -> None:
    with pytest.raises(UserError, match="at least one response"):
        vote([], PLAIN)


SAMPLES = st.lists(st.sampled_from(["", "1", "2", "3"]), min_size=1, max_size=12)


@given(SAMPLES, st.randoms(use_true_random=False))
def test_permuting_samples_changes_only_ties(responses: list[str], random: Random) -> None:
    straight, permuted = vote(responses, PLAIN), vote(random.sample(responses, len(responses)), PLAIN)
    assert straight.confidence == permuted.confidence
    strongest = max(map(responses.count, responses))
    if len({text for text in responses if responses.count(text) == strongest}) == 1:
        assert straight.majority == permuted.majority
        assert sorted(straight.negatives) == sorted(permuted.negatives)


@given(SAMPLES)
def test_the_first_seen_of_the_most_frequent_wins(responses: list[str]) -> None:
    strongest = max(map(responses.count, responses))
    assert vote(responses, PLAIN).majority == next(text for text in responses if responses.count(text) == strongest)


@given(SAMPLES)
def test_both_sides_hold_every_sample_once(responses: list[str]) -> None:
    decided = vote(responses, PLAIN)
    assert sorted([*decided.positives, *decided.negatives]) == sorted(responses)
    assert set(decided.positives) == {decided.majority}


@pytest.mark.parametrize(("share", "fraction"), [(0.6, (3, 5)), ("0.8", (4, 5)), (1, (1, 1)), ("2/3", (2, 3))])
def test_thresholds_are_what_their_notation_means(share: float | str, fraction: tuple[int, int]) -> None:
    assert exact(share) == Fraction(*fraction)


@pytest.mark.parametrize("share", ["", "x", -0.1, 1.5, "nan", "1/0"])
def test_other_thresholds_are_refused(share: float | str) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        exact(share)
