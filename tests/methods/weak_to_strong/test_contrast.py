"""Stage II: the boundary table, the two pair rules, and the published random stream.

In the table a sample ``k`` answers k; ten samples unless it says otherwise; the weak answer is 1.
"""

from __future__ import annotations

import random as published_random
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.methods.weak_to_strong.agreement import AnswerRule
from strop.methods.weak_to_strong.algorithm import stage_two
from strop.methods.weak_to_strong.contrast import PUBLISHED_THRESHOLDS, PairRule, Role, Thresholds, contrast, weak_role
from strop.methods.weak_to_strong.voting import Vote, exact, vote
from strop.records import Answer, SampledAnswers

RULE = AnswerRule(lambda response: response.partition("=")[2])


def samples(*counts: tuple[str, int]) -> list[str]:
    """Texts ``s0=answer``, ``s1=answer`` and so on: all different, `counts` of each answer."""
    answers = [answer for answer, count in counts for _ in range(count)]
    return [f"s{number}={answer}" for number, answer in enumerate(answers)]


def pairs_of(weak: str, responses: list[str], rule: PairRule, seed: int = 42) -> list[tuple[str, str]]:
    question = (Answer(0, "q", weak), SampledAnswers(0, "q", tuple(responses)))
    made = stage_two([question], RULE, pairs=rule, random=Random(seed))
    return [(pair.chosen, pair.rejected) for pair in made]


BOUNDARIES = [
    # weak answer, samples by answer, role, pairs under the gsm8k rule, pairs under the math rule
    ("1", [("1", 5), ("2", 5)], Role.UNSURE, 0, 0),
    ("1", [("1", 6), ("2", 4)], Role.WEAK_CHOSEN, 1, 3),
    ("1", [("1", 7), ("2", 3)], Role.WEAK_CHOSEN, 1, 3),
    ("1", [("1", 9), ("2", 1)], Role.WEAK_CHOSEN, 1, 1),
    ("1", [("1", 8), ("", 2)], Role.WEAK_CHOSEN, 1, 2),
    ("1", [("1", 10)], Role.TOO_EASY, 0, 0),
    ("1", [("2", 6), ("1", 4)], Role.DISPUTED, 0, 0),
    ("1", [("2", 7), ("1", 3)], Role.DISPUTED, 0, 0),
    ("1", [("2", 8), ("1", 2)], Role.WEAK_REJECTED, 1, 3),
    ("1", [("2", 10)], Role.WEAK_REJECTED, 1, 3),
    ("1", [("", 8), ("1", 2)], Role.NO_ANSWER, 0, 0),
    ("1", [("", 10)], Role.NO_ANSWER, 0, 0),
    ("", [("", 10)], Role.NO_ANSWER, 0, 0),
    ("", [("2", 7), ("", 3)], Role.DISPUTED, 0, 0),
    ("", [("2", 8), ("", 2)], Role.WEAK_REJECTED, 1, 3),
    # Five samples: 3 of 5 is exactly 0.6, 4 of 5 exactly 0.8.
    ("1", [("1", 2), ("2", 2), ("3", 1)], Role.UNSURE, 0, 0),
    ("1", [("1", 3), ("2", 2)], Role.WEAK_CHOSEN, 1, 2),
    ("1", [("2", 3), ("1", 2)], Role.DISPUTED, 0, 0),
    ("1", [("2", 4), ("1", 1)], Role.WEAK_REJECTED, 1, 3),
    # Three samples: 2 of 3 lies between the thresholds.
    ("1", [("1", 2), ("2", 1)], Role.WEAK_CHOSEN, 1, 1),
    ("1", [("2", 2), ("1", 1)], Role.DISPUTED, 0, 0),
]


@pytest.mark.parametrize(("weak", "counts", "role", "gsm8k", "math"), BOUNDARIES)
def test_boundaries(weak: str, counts: list[tuple[str, int]], role: Role, gsm8k: int, math: int) -> None:
    responses = samples(*counts)
    assert weak_role(weak, vote(responses, RULE), RULE, PUBLISHED_THRESHOLDS) is role
    assert len(pairs_of(f"w={weak}", responses, "gsm8k")) == gsm8k
    assert len(pairs_of(f"w={weak}", responses, "math")) == math


def test_thresholds_are_parameters() -> None:
    """3 of 10 with thresholds 0.3 and 0.3: no float comes between 3/10 and 0.3."""
    decided = vote(samples(("2", 3), ("3", 2), ("4", 2), ("5", 2), ("6", 1)), RULE)
    assert weak_role("1", decided, RULE, Thresholds(exact(0.3), exact(0.3))) is Role.WEAK_REJECTED
    assert weak_role("1", decided, RULE, Thresholds(exact("0.31"), exact("0.31"))) is Role.UNSURE


def test_an_undecided_comparison_makes_no_pair() -> None:
    rule = AnswerRule(RULE.extract, lambda predicted, reference: None)
    assert weak_role("1", vote(samples(("2", 10)), RULE), rule, PUBLISHED_THRESHOLDS) is Role.NOT_GRADED


def test_math_rule_takes_all_of_three_negatives_in_sample_order() -> None:
    responses = samples(("2", 1), ("1", 7), ("3", 2))
    assert pairs_of("w=1", responses, "math") == [("w=1", "s0=2"), ("w=1", "s8=3"), ("w=1", "s9=3")]


def test_math_rule_keeps_repeats_among_the_later_positives() -> None:
    """Positives a a b b b: whichever comes first, its copies are passed over; the later two may repeat each other."""
    decided = Vote("2", ("a", "a", "b", "b", "b"), ())
    for seed in range(20):
        made = [chosen for chosen, _ in contrast("w", Role.WEAK_REJECTED, decided, "math", Random(seed))]
        assert made in (["a", "b", "b"], ["b", "a", "a"])


def test_math_rule_gives_one_pair_when_all_positives_are_one_text() -> None:
    assert pairs_of("w=1", ["x=2"] * 10, "math") == [("x=2", "w=1")]


def literal_stage_two(questions: list[tuple[str, list[str]]], most: int) -> list[tuple[str, str]]:
    """The published procedure, read literally: floats, the module's generator, lists."""
    published_random.seed(42)
    made: list[tuple[str, str]] = []
    for weak, responses in questions:
        answers = [RULE.extract(response) for response in responses]
        majority, count = Counter(answers).most_common(1)[0]
        winners = [text for text, answer in zip(responses, answers, strict=True) if answer == majority]
        losers = [text for text, answer in zip(responses, answers, strict=True) if answer != majority]
        confidence = count / len(responses)
        if confidence < 0.6 or majority == "":
            continue
        if RULE.extract(weak) == majority:
            if not losers:
                continue
            if most == 1 or len(losers) > most:
                losers = published_random.sample(losers, most)
            made += [(weak, loser) for loser in losers]
        elif confidence >= 0.8:
            first = published_random.sample(winners, 1)[0]
            chosen = [first] + [text for text in winners if text != first]
            made += [(text, weak) for text in chosen[:most]]
    return made


TEXTS = st.tuples(st.sampled_from("abc"), st.sampled_from(["", "1", "2"])).map("=".join)
SKEWED = st.tuples(st.sampled_from("abc"), st.sampled_from(["1"] * 8 + ["2", ""])).map("=".join)
QUESTIONS = st.lists(
    st.tuples(TEXTS, st.lists(TEXTS, min_size=10, max_size=10) | st.lists(SKEWED, min_size=10, max_size=10)),
    max_size=12,
)


def ours(questions: list[tuple[str, list[str]]], rule: PairRule, seed: int = 42) -> list[tuple[str, str]]:
    rows = (
        (Answer(number, "q", weak), SampledAnswers(number, "q", tuple(responses)))
        for number, (weak, responses) in enumerate(questions)
    )
    return [(pair.chosen, pair.rejected) for pair in stage_two(rows, RULE, pairs=rule, random=Random(seed))]


@given(QUESTIONS)
def test_the_published_stream_to_the_draw(questions: list[tuple[str, list[str]]]) -> None:
    assert ours(questions, "gsm8k") == literal_stage_two(questions, 1)
    assert ours(questions, "math") == literal_stage_two(questions, 3)


@given(QUESTIONS, st.integers(0, 3))
def test_pairs_are_a_function_of_the_seed(questions: list[tuple[str, list[str]]], seed: int) -> None:
    assert ours(questions, "math", seed) == ours(questions, "math", seed)


@given(QUESTIONS)
def test_every_pair_contrasts_the_weak_chain_with_a_different_answer(questions: list[tuple[str, list[str]]]) -> None:
    weak_texts = {weak for weak, _ in questions}
    for chosen, rejected in ours(questions, "math"):
        assert chosen in weak_texts or rejected in weak_texts
        assert RULE.extract(chosen)
        assert RULE.extract(chosen) != RULE.extract(rejected)


def test_roles_are_counted() -> None:
    roles: Counter[Role] = Counter()
    rows = [(Answer(0, "q", "w=1"), SampledAnswers(0, "q", ("s=1",) * 10))] * 3
    assert list(stage_two(rows, RULE, pairs="gsm8k", random=Random(42), roles=roles)) == []
    assert roles == {Role.TOO_EASY: 3}
