"""Where answers are found: the published rule, its weaknesses repaired in strict mode, and answers without a key."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.errors import UserError
from strop.evaluation.answers import MODES, AnswerKey, extract_answer, parse_key, parse_mode, prepare_gold
from strop.evaluation.answers.extraction import last_boxed

GSM8K, MATH = parse_key("gsm8k"), parse_key("math")

CASES = [
    # response, key, compat, strict, lenient
    ("so 72.\n#### 72", GSM8K, "72", "72", "72"),
    ("#### 72\nI hope this helps.", GSM8K, "", "72", "72"),
    ("####72", GSM8K, "", "72", "72"),
    ("####\n72", GSM8K, "", "72", "72"),
    ("#### 5 #### 6", GSM8K, "5####6", "6", "6"),
    ("I end with ####, as asked.\n#### 7", GSM8K, "7", "7", "7"),
    ("#### 72\n####", GSM8K, "", "72", "72"),
    ("#### 8</s>", GSM8K, "8", "8", "8"),
    ("#### 9\n\nQuestion: what else?\nAnswer: ten\n#### 10", GSM8K, "9", "9", "9"),
    ("The Question was hard.\n#### 4", GSM8K, "", "4", "4"),
    ("#### 5.", GSM8K, "5.", "5", "5"),
    ("#### \u200b12", GSM8K, "\u200b12", "\u200b12", "\u200b12"),
    ("The answer is: \\frac{1}{2}.", MATH, "\\frac{1}{2}.", "\\frac{1}{2}", "\\frac{1}{2}"),
    ("The answer is 35.6", MATH, "35.6", "35.6", "35.6"),
    ("The answer is 1,234 apples.", GSM8K, "1234", "1,234", "1,234"),
    ("The answer is:5", MATH, "", "5", "5"),
    ("The answer is obvious.\nThe answer is: 3", MATH, "3", "3", "3"),
    ("#### 5\nThe answer is clear.", GSM8K, "", "5", "5"),
    ("so $\\boxed{\\frac{3}{4}}$ of 12", MATH, "", "", "\\frac{3}{4}"),
    ("so there are 1,200 of them, -5 fewer", GSM8K, "", "", "-5"),
    ("so there are 1,200.", GSM8K, "", "", "1,200"),
    ("no number at all", GSM8K, "", "", ""),
    ("", GSM8K, "", "", ""),
    ("A: 18", AnswerKey("A:"), "18", "18", "18"),
]


@pytest.mark.parametrize(("response", "key", "compat", "strict", "lenient"), CASES)
def test_where_the_answer_is(response: str, key: AnswerKey, compat: str, strict: str, lenient: str) -> None:
    found = [extract_answer(response, key, mode) for mode in MODES]
    assert found == [compat, strict, lenient]


def test_keys_have_names() -> None:
    assert parse_key("gsm8k") == AnswerKey("####")
    assert parse_key("math") == AnswerKey("The answer is:")
    assert parse_key("A:") == AnswerKey("A:")


@pytest.mark.parametrize("text", ["", "  ", "two\nlines"])
def test_a_key_is_a_piece_of_one_line(text: str) -> None:
    with pytest.raises(UserError, match="one line"):
        parse_key(text)


def test_an_unknown_mode_names_the_modes() -> None:
    assert parse_mode("strict") == "strict"
    with pytest.raises(UserError, match="compat, strict, lenient"):
        parse_mode("loose")


def test_gold_may_be_a_worked_solution() -> None:
    solution = "There are 20 + 20 = 40.\nQuestion 3 is open.\nA: 1,040"
    assert prepare_gold(solution, AnswerKey("A:"), "compat") == "1040"
    assert prepare_gold(solution, AnswerKey("A:"), "strict") == "1,040"
    assert prepare_gold(" 1,040 ", GSM8K, "strict") == "1,040"
    assert prepare_gold("1,040", GSM8K, "compat") == "1040"


@pytest.mark.parametrize(
    ("text", "content"),
    [("\\boxed{1} then \\boxed{a_{b}}", "a_{b}"), ("\\boxed{}", ""), ("\\boxed{1", ""), ("none", "")],
)
def test_last_boxed(text: str, content: str) -> None:
    assert last_boxed(text) == content


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200), st.sampled_from([GSM8K, MATH, AnswerKey("A:")]), st.sampled_from(MODES))
def test_never_raises_and_gives_one_line(response: str, key: AnswerKey, mode: str) -> None:
    answer = extract_answer(response, key, parse_mode(mode))
    assert mode == "compat" or "\n" not in answer


@given(st.integers(-(10**12), 10**12), st.sampled_from(["gsm8k", "math", "A:"]))
def test_a_stated_integer_is_found_in_every_mode(number: int, key: str) -> None:
    parsed = parse_key(key)
    for mode in MODES:
        assert extract_answer(f"Some steps, 3 of them.\n{parsed.text} {number}", parsed, mode) == str(number)


@pytest.mark.parametrize(
    "hostile", ["#### " * 40_000, "####\n" * 40_000, "The answer is " * 15_000, "\n" * 200_000, " " * 200_000,
                "\\boxed{" * 30_000, "1,234," * 30_000, "1" * 200_000, "-.5" * 60_000],
    ids=lambda text: repr(text[:8]),
)  # fmt: skip
def test_long_responses_take_linear_time(hostile: str) -> None:
    start = time.perf_counter()
    for mode in MODES:
        extract_answer(hostile, GSM8K, mode)
    assert time.perf_counter() - start < 20
