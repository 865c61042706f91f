"""Demonstrations are the weak model's own answers, chosen without gold unless asked to."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from strop.errors import UserError
from strop.methods.weak_to_strong.data import answer_from_row
from strop.methods.weak_to_strong.demonstrations import first_correct, given_demonstrations, random_demonstrations
from strop.records import Answer

ANSWERS = [
    Answer(number, f"Question: q{number}\nAnswer:", f"#### {number}" if number % 2 else "?") for number in range(9)
]


def test_published_demonstrations_of_llama2_7b(published: Any) -> None:
    rows = published("outputs/gsm8k_train_2/llama2_7b_results.jsonl")
    answers = [answer_from_row(row) for row in rows]
    assert [shown.id for shown in random_demonstrations(answers, key="####")] == [434, 2772, 3401, 173]
    correct = {row["id"] for row in rows if row["result"]}
    assert [shown.id for shown in first_correct(answers, correct=correct)] == [434, 2772, 3401, 5586]


def test_random_demonstrations_state_an_answer() -> None:
    shown = random_demonstrations(ANSWERS, key="####", count=4)
    assert sorted(demonstration.id for demonstration in shown) == [1, 3, 5, 7]
    assert all(demonstration.answer == f"#### {demonstration.id}" for demonstration in shown)


def test_the_stream_decides_and_the_input_stays_as_it_is() -> None:
    before = list(ANSWERS)
    draws = {tuple(random_demonstrations(ANSWERS, key="####", count=2, random=Random(seed))) for seed in range(20)}
    assert len(draws) > 1
    assert before == ANSWERS


def test_given_demonstrations_keep_their_order() -> None:
    assert [shown.question for shown in given_demonstrations(ANSWERS, ids=[5, 0])] == ["q5", "q0"]


def test_given_demonstrations_name_the_missing() -> None:
    with pytest.raises(UserError, match=r"\[77\]"):
        given_demonstrations(ANSWERS, ids=[1, 77])


def test_too_few_suitable_answers() -> None:
    with pytest.raises(UserError, match="only 4 weak answers contain '####'"):
        random_demonstrations(ANSWERS, key="####", count=5)
    with pytest.raises(UserError, match="only 1 weak answers are correct"):
        first_correct(ANSWERS, correct={3}, count=2)
