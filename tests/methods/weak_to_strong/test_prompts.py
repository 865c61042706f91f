"""The published prompts, to the character."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.methods.weak_to_strong.demonstrations import Demonstration, question_of
from strop.methods.weak_to_strong.prompts import (
    clean_response,
    few_shot_prompt,
    olympicarena_prompt,
    zero_shot_prompt,
)


def test_zero_shot_prompt_has_no_trailing_space() -> None:
    assert zero_shot_prompt("1 + 1?") == "Question: 1 + 1?\nAnswer:"


def test_every_demonstration_is_followed_by_an_empty_line() -> None:
    shown = [Demonstration(0, "a?", "x\n#### 1"), Demonstration(1, "b?", "#### 2")]
    assert few_shot_prompt(shown, "c?") == (
        "Question: a?\nAnswer: x\n#### 1\n\nQuestion: b?\nAnswer: #### 2\n\nQuestion: c?\nAnswer:"
    )


def test_olympicarena_prompt_replaces_the_problem_line() -> None:
    given_prompt = "You are in a competition.\n\nproblem:\nState the law."
    assert olympicarena_prompt(given_prompt) == "You are in a competition.\n\nQuestion: State the law.\n\nAnswer:"
    assert olympicarena_prompt(given_prompt, [Demonstration(0, "a?", "b")]).startswith("Question: a?\nAnswer: b\n\nYou")


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        (" #### 5.\n", "#### 5"),
        ("...a...", "a"),
        (". a .", " a "),
        ("", ""),
        ("....", ""),
        ("a. b", "a. b"),
    ],
)
def test_stored_response(text: str, stored: str) -> None:
    """White space first, then full stops: white space inside the stops stays, as published."""
    assert clean_response(text) == stored


@given(st.text())
def test_question_of_inverts_the_zero_shot_prompt(question: str) -> None:
    assert question_of(zero_shot_prompt(question)) == question


def test_question_of_an_olympicarena_prompt_leaves_its_introduction_out() -> None:
    assert question_of(olympicarena_prompt("You are in a competition.\n\nproblem:\nState\nit.")) == "State\nit."


@pytest.mark.parametrize("prompt", ["", "Question: a", "Q: a\nAnswer:", "Question: a\nAnswer: b"])
def test_question_of_refuses_other_prompts(prompt: str) -> None:
    with pytest.raises(UserError, match="zero-shot prompt"):
        question_of(prompt)
