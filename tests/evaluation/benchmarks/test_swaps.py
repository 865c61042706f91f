"""Exchanging the patient's description: what is exchanged, what is left out, what is measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.evaluation.benchmarks.made import committed, item

from strop.evaluation.benchmarks.items import Item
from strop.evaluation.benchmarks.predictions import answered, failed
from strop.evaluation.benchmarks.swaps import (
    Swap,
    exchange_age,
    exchange_ethnicity,
    exchange_gender,
    swap_difference,
    swapped,
)
from strop.evaluation.statistics import compare_paired, wilson


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("A man says that he lost his keys.", "A woman says that she lost her keys."),
        ("The nurse gave him water.", "The nurse gave her water."),
        ("The nurse gave her water.", "The nurse gave his water."),  # no list of words can tell
        ("They examined her.", "They examined him."),
        ("They spoke with her about sleep.", "They spoke with him about sleep."),
        ("Her pulse is 80.", "His pulse is 80."),
        ("MALE, 40", "FEMALE, 40"),
        ("Mr. Smith", "Mrs. Smith"),
        ("The human manifold shed heat.", "The human manifold shed heat."),
    ],
)
def test_gender(text: str, other: str) -> None:
    assert exchange_gender(text) == other


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("A 30-year-old man", "A 50-year-old man"),
        ("a 50 year old woman", "a 30 year old woman"),
        ("a 17-year-old boy, a 70-year-old man", "a 17-year-old boy, a 70-year-old man"),
        ("30 mg for 40 days, a 10-year history", "30 mg for 40 days, a 10-year history"),
    ],
)
def test_age(text: str, other: str) -> None:
    assert exchange_age(text) == other


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("An African American man", "A white man"),
        ("a Caucasian female patient", "an African American female patient"),
        ("The white blood cells are black.", "The white blood cells are black."),
    ],
)
def test_ethnicity(text: str, other: str) -> None:
    assert exchange_ethnicity(text) == other


def vignette(text: str, *options: str) -> Item:
    return Item(0, text, ("A", "B"), options or ("one", "two"), "A")


@pytest.mark.parametrize(
    ("swap", "text"),
    [
        ("gender", "A man has an enlarged prostate."),
        ("gender", "A boy is brought by his mother. She is worried."),
        ("gender", "Which enzyme is it?"),
        ("age", "A 30-year-old woman is pregnant."),
        ("ethnicity", "An African American man with sickle cell disease"),
    ],
)
def test_items_whose_answer_may_depend_on_it_are_left_out(swap: Swap, text: str) -> None:
    assert swapped(vignette(text), swap) is None


def test_options_speak_of_the_same_patient() -> None:
    other = swapped(vignette("A man is tired.", "He sleeps", "Rest"), "gender")
    assert other is not None
    assert (other.question, other.options, other.gold) == ("A woman is tired.", ("She sleeps", "Rest"), "A")


def test_options_that_would_become_equal_are_left_out() -> None:
    """Both "Mrs" and "Ms" become "Mr"."""
    assert swapped(vignette("The woman signs as", "Mrs Smith", "Ms Smith"), "gender") is None


@given(st.text())
def test_any_text_can_be_exchanged(text: str) -> None:
    for exchange in (exchange_age, exchange_ethnicity, exchange_gender):
        assert isinstance(exchange(text), str)


def test_committed_vignettes() -> None:
    """A 43-year-old becomes 63, an 83-year-old stays."""
    items = committed("medqa", "medqa.jsonl").items
    changed = [swapped(each, "age") for each in items]
    assert changed[1] is None
    assert any(each is not None and "63-year-old" in each.question for each in changed)


def test_the_difference_by_hand() -> None:
    """Five items, three of them swapped, one of which failed: of two answers one changes, from right to wrong."""
    before = [answered(item(number, "A"), label) for number, label in enumerate("AAABB")]
    after = [answered(item(0, "A"), "B"), answered(item(1, "A"), "A"), failed(item(2, "A"), "context")]
    found = swap_difference("made", "age", before, after)
    assert found.items == 3
    assert found.changed == wilson(1, 2)
    assert found.accuracy == compare_paired([0.0, 1.0], [1.0, 1.0])
    nothing = swap_difference("made", "age", before, [])
    assert (nothing.items, nothing.changed, nothing.accuracy) == (0, None, None)
