"""Stage I: what is kept, in which order, and that nothing but the two answers decides."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.methods.weak_to_strong.agreement import AnswerRule
from strop.methods.weak_to_strong.algorithm import TopUp, stage_one
from strop.methods.weak_to_strong.selection import AnswerPair, Decision, compare, draw_top_up
from strop.records import Answer, SupervisedExample


def answer(number: int, response: str, prompt: str = "zero-shot") -> Answer:
    return Answer(number, prompt, response)


def pair(number: int, weak: str, icl: str) -> AnswerPair:
    return AnswerPair(answer(number, weak), answer(number, icl, "few-shot"))


def decided(predicted: str, reference: str) -> bool | None:
    """Values compared as numbers; what is not a number cannot be graded."""
    try:
        return float(predicted) == float(reference)
    except ValueError:
        return None


RULE = AnswerRule(lambda response: response.partition("#### ")[2])
VALUES = AnswerRule(RULE.extract, decided)


@pytest.mark.parametrize(
    ("weak", "icl", "rule", "allow_empty", "decision"),
    [
        ("w #### 5", "i #### 5", RULE, False, Decision.AGREED),
        ("#### 5", "#### 6", RULE, False, Decision.DIFFERENT),
        ("#### 0.5", "#### 0.50", RULE, False, Decision.DIFFERENT),
        ("#### 0.5", "#### 0.50", VALUES, False, Decision.AGREED),
        ("#### x", "#### y", VALUES, False, Decision.NOT_GRADED),
        ("#### x", "#### x", VALUES, False, Decision.AGREED),
        ("none", "#### 5", RULE, False, Decision.NO_WEAK_ANSWER),
        ("none", "#### 5", RULE, True, Decision.NO_WEAK_ANSWER),
        ("#### 5", "none", RULE, False, Decision.NO_ICL_ANSWER),
        ("#### 5", "none", RULE, True, Decision.NO_ICL_ANSWER),
        ("none", "none", RULE, False, Decision.NO_WEAK_ANSWER),
        ("none", "none", RULE, True, Decision.AGREED),
    ],
)
def test_decisions(weak: str, icl: str, rule: AnswerRule, allow_empty: bool, decision: Decision) -> None:
    assert compare(pair(0, weak, icl), rule, allow_empty=allow_empty) is decision


def test_the_three_sets_use_the_weak_prompt_and_interleave() -> None:
    """Of three questions the second disagrees: ids 0 and 2 stay, in the order weak, icl, weak, icl."""
    pairs = [pair(0, "a #### 1", "b #### 1"), pair(1, "#### 1", "#### 2"), pair(2, "c #### 3", "d #### 3")]
    kept = stage_one(pairs, RULE)
    first, second = (SupervisedExample(0, "zero-shot", f"{text} #### 1") for text in "ab")
    third, fourth = (SupervisedExample(2, "zero-shot", f"{text} #### 3") for text in "cd")
    assert kept.weak == [first, third]
    assert kept.icl == [second, fourth]
    assert kept.hybrid == [first, second, third, fourth]
    assert kept.decisions == {Decision.AGREED: 2, Decision.DIFFERENT: 1}


def test_top_up_follows_the_agreed_block_weak_first() -> None:
    """One agreed question and a target of 3: two of the three disagreeing ones are drawn, never the empty one."""
    pairs = [
        pair(0, "#### 1", "#### 2"),
        pair(1, "#### 1", "#### 1"),
        pair(2, "none", "#### 2"),
        pair(3, "#### 3", "#### 4"),
        pair(4, "#### 5", "#### 6"),
    ]
    kept = stage_one(pairs, RULE, top_up=TopUp(3, Random(0)))
    drawn = [question.weak.id for question in kept.topped_up]
    assert len(drawn) == 2
    assert set(drawn) <= {0, 3, 4}
    assert [example.id for example in kept.weak] == [example.id for example in kept.icl] == [1, *drawn]
    assert [example.id for example in kept.hybrid] == [1, 1, *drawn, *drawn]
    weak_block, icl_block = kept.hybrid[2:4], kept.hybrid[4:6]
    assert [example.response for example in weak_block] == [question.weak.response for question in kept.topped_up]
    assert [example.response for example in icl_block] == [question.icl.response for question in kept.topped_up]


@pytest.mark.parametrize(("missing", "drawn"), [(-3, 0), (0, 0), (2, 2), (4, 4), (9, 4)])
def test_top_up_draws_what_there_is(missing: int, drawn: int) -> None:
    candidates = [pair(number, "#### 1", "#### 2") for number in range(4)]
    assert len(draw_top_up(candidates, missing=missing, random=Random(0))) == drawn


ROWS = st.lists(st.tuples(st.sampled_from("123 "), st.sampled_from("123 ")), max_size=30)


def as_pairs(rows: list[tuple[str, str]]) -> list[AnswerPair]:
    return [
        pair(number, f"w{number} #### {weak}".strip(), f"i{number} #### {icl}".strip())
        for number, (weak, icl) in enumerate(rows)
    ]


@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_the_questions_changes_nothing_but_the_order(rows: list[tuple[str, str]], random: Random) -> None:
    pairs = as_pairs(rows)
    shuffled = random.sample(pairs, len(pairs))
    straight, permuted = stage_one(pairs, RULE), stage_one(shuffled, RULE)
    assert straight.decisions == permuted.decisions
    assert {row.weak.id for row in straight.agreed} == {row.weak.id for row in permuted.agreed}
    assert [row.weak.id for row in permuted.agreed] == [row.weak.id for row in shuffled if row in straight.agreed]


@given(ROWS)
def test_agreement_is_symmetric(rows: list[tuple[str, str]]) -> None:
    """Exchanging the two models keeps the same questions and exchanges the sets."""
    pairs = as_pairs(rows)
    straight = stage_one(pairs, RULE)
    swapped = stage_one([AnswerPair(row.icl, row.weak) for row in pairs], RULE)
    assert [row.weak.id for row in straight.agreed] == [row.weak.id for row in swapped.agreed]
    assert [row.response for row in straight.weak] == [row.response for row in swapped.icl]


@given(ROWS)
def test_every_kept_question_agrees_and_every_agreeing_one_is_kept(rows: list[tuple[str, str]]) -> None:
    kept = {row.weak.id for row in stage_one(as_pairs(rows), RULE).agreed}
    assert kept == {number for number, (weak, icl) in enumerate(rows) if weak == icl != " "}


@given(ROWS)
def test_selecting_again_keeps_everything(rows: list[tuple[str, str]]) -> None:
    once = stage_one(as_pairs(rows), RULE)
    assert stage_one(once.agreed, RULE).agreed == once.agreed
