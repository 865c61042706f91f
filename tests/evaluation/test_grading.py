"""Grades and their summary: what counts, what does not, and what the interval knows of repeated questions.

Design effect by hand: two questions with four answers each, 4 right and 0 right. p = 0.5; the clusters' deviations are
4 - 0.5 * 4 = 2 and -2, so the variance between is 2² + 2² = 8 against n p (1 - p) = 2: the effect is 4, and 8 answers
are worth 2.
"""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.evaluation.answer_files import Response
from strop.evaluation.answers import MODES, Mode, parse_key
from strop.evaluation.grading import GradedAnswer, GradingSummary, grade, grade_response
from strop.evaluation.statistics import wilson

KEY = parse_key("gsm8k")


def _summary(responses: list[Response], mode: Mode = "strict") -> GradingSummary:
    summary = GradingSummary()
    for response, graded in grade(responses, KEY, mode):
        summary.add(response, graded)
    return summary


def test_a_row_holds_what_is_known() -> None:
    assert grade_response(Response(3, "#### 1,000", "1000"), KEY, "compat").to_row() == {
        "id": 3,
        "pred": "1000",
        "gold": "1000",
        "result": True,
    }
    assert grade_response(Response(3, "#### 4"), KEY, "strict").to_row() == {"id": 3, "pred": "4"}
    row = grade_response(Response("q", "#### 9^{9^{9^9}}", "5", sample=2), KEY, "strict").to_row()
    assert (row["sample"], row["result"]) == (2, None)
    assert "not decided" in row["reason"]


@pytest.mark.parametrize("mode", MODES)
def test_what_cannot_be_graded_is_neither_right_nor_wrong(mode: Mode) -> None:
    assert grade_response(Response(0, None, "5"), KEY, mode) == GradedAnswer(0, "", "5", None, "there is no response")
    assert grade_response(Response(0, "#### 5", "solution without\n#### "), KEY, mode).result is None
    summary = _summary([Response(0, "#### 5", "5"), Response(1, None, "5"), Response(2, "#### 5")], mode)
    assert (summary.n, summary.graded, summary.correct) == (3, 1, 1)
    assert (summary.not_graded, summary.without_gold, summary.no_answer) == (1, 1, 1)
    accuracy = summary.accuracy()
    assert accuracy is not None
    assert (accuracy.estimate, accuracy.n) == (1.0, 1)


def test_no_answer_is_wrong() -> None:
    summary = _summary([Response(0, "no idea", "5")])
    assert (summary.graded, summary.correct, summary.no_answer, summary.not_graded) == (1, 0, 1, 0)


def test_modes_differ_where_they_should() -> None:
    found = {mode: grade_response(Response(0, "#### 0.50\nDone.", "0.5"), KEY, mode).result for mode in MODES}
    assert found == {"compat": False, "strict": True, "lenient": True}
    found = {mode: grade_response(Response(0, "so it is 12", "12"), KEY, mode).result for mode in MODES}
    assert found == {"compat": False, "strict": False, "lenient": True}


def test_published_answers_are_compared() -> None:
    responses = [
        Response(0, "#### 5", "5", published_pred="5", published_result=True),
        Response(1, "#### 6", "5", published_pred="7", published_result=True),
    ]
    row = _summary(responses, "compat").to_row()
    assert row["published_preds_equal"] == {"equal": 1, "stated": 2}
    assert row["published_results_equal"] == {"equal": 1, "stated": 2}


def test_nothing_graded_has_no_accuracy() -> None:
    row = _summary([]).to_row()
    assert (row["n"], row["accuracy"], row["interval"]) == (0, None, None)


def test_repeated_questions_widen_the_interval_by_hand() -> None:
    responses = [Response(question, f"#### {question}", "1", sample=n) for question in (1, 0) for n in range(4)]
    accuracy = _summary(responses).accuracy()
    assert accuracy is not None
    expected = wilson(1, 2)
    assert (accuracy.estimate, accuracy.n) == (0.5, 8)
    assert (accuracy.low, accuracy.high) == (expected.low, expected.high)


@given(st.lists(st.booleans(), min_size=1, max_size=50))
def test_separate_questions_have_the_plain_wilson_interval(outcomes: list[bool]) -> None:
    accuracy = _summary([Response(n, f"#### {int(right)}", "1") for n, right in enumerate(outcomes)]).accuracy()
    assert accuracy is not None
    expected = wilson(sum(outcomes), len(outcomes))
    assert math.isclose(accuracy.low, expected.low, abs_tol=1e-12)
    assert math.isclose(accuracy.high, expected.high, abs_tol=1e-12)


def test_memory_stays_flat() -> None:
    """Ten times the rows, all with answers of their own, at most 1.2 times the peak."""

    def responses(n: int) -> Iterator[Response]:
        for number in range(n):
            yield Response(number, f"so\n#### {number:,}.5", f"{number}.50")

    def peak(n: int) -> int:
        tracemalloc.start()
        summary = GradingSummary()
        for response, graded in grade(responses(n), KEY, "compat"):
            summary.add(response, graded)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    # The first run fills the bounded memory of short answers to its end.
    peak(60_000)
    assert peak(60_000) < 1.2 * peak(6_000)
