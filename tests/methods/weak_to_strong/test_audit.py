"""Audits, with numbers worked by hand; a share of nothing is None."""

from __future__ import annotations

import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.methods.weak_to_strong import audit
from strop.methods.weak_to_strong.agreement import AnswerRule
from strop.methods.weak_to_strong.demonstrations import Demonstration
from strop.records import Answer, Identifier, PreferencePair, Question

RULE = AnswerRule(lambda response: response.partition("=")[2])


def test_repetition_counts_rows_beyond_the_first() -> None:
    """Texts a a a b: two rows more than there are texts."""
    assert audit.repetition(Question(number, text) for number, text in enumerate("aaab")) == audit.Repetition(4, 2)


def test_leakage_names_both_sides() -> None:
    first = [Question(number, text) for number, text in enumerate("abc")]
    second = [Question(number, text) for number, text in enumerate("xcca")]
    assert audit.leakage(first, second) == audit.Leakage(2, (0, 2), (1, 2, 3))


def test_supervisor_share() -> None:
    """Four pairs; the candidate answered three: once chosen, once rejected, once neither. 2 of 3."""
    pairs = [PreferencePair(0, "q", "w0", "x"), PreferencePair(1, "q", "x", "w1")]
    pairs += [PreferencePair(2, "q", "x", "y"), PreferencePair(9, "q", "x", "y")]
    found = audit.supervisor(pairs, "weak", {0: "w0", 1: "w1", 2: "w2"})
    assert found == audit.Supervisor("weak", pairs=4, checkable=3, chosen=1, rejected=1)
    assert found.share == pytest.approx(2 / 3)
    assert audit.supervisor(pairs, "stranger", {}).share is None


def test_pair_sides() -> None:
    pairs = [
        PreferencePair(0, "q", "a=1", "b=2"),
        PreferencePair(0, "q", "a=1", "b=2"),
        PreferencePair(1, "q", "a=1", "b=1"),
        PreferencePair(2, "q", "a", "b="),
    ]
    assert audit.pair_sides(pairs, RULE) == audit.PairSides(
        pairs=4, questions=3, same_answer=2, empty_chosen=1, empty_rejected=1, repeated=1
    )


def test_selection_quality() -> None:
    """Gold 1 for ids 0 to 3. Answers 1 1 2 and none: base 2/4. Kept 0 and 2: precision 1/2, recall 1/2."""
    answers = [(0, "1"), (1, "1"), (2, "2"), (3, ""), (8, "5")]
    found = audit.selection_quality(answers, {0, 2}, dict.fromkeys(range(4), "1"), same=operator.eq)
    assert found == audit.Quality(rows=4, kept=2, correct=2, kept_correct=1, not_graded=0)
    assert (found.precision, found.recall, found.base) == (0.5, 0.5, 0.5)


def test_what_cannot_be_graded_counts_neither_way() -> None:
    found = audit.selection_quality([(0, "x"), (1, "1")], {0, 1}, {0: "1", 1: "1"}, same=lambda *both: None)
    assert found == audit.Quality(rows=0, kept=0, correct=0, kept_correct=0, not_graded=2)
    assert (found.precision, found.recall, found.base) == (None, None, None)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
def test_keeping_everything_has_recall_one_and_base_precision(rows: list[tuple[bool, bool]]) -> None:
    answers = [(number, "1" if right else "2") for number, (right, _) in enumerate(rows)]
    gold: dict[Identifier, str] = dict.fromkeys(range(len(rows)), "1")
    everything = audit.selection_quality(answers, set(gold), gold, same=operator.eq)
    assert everything.precision == everything.base
    assert everything.recall in (None, 1)
    some = {number for number, (_, kept) in enumerate(rows) if kept}
    part = audit.selection_quality(answers, some, gold, same=operator.eq)
    assert part.kept == len(some)
    assert part.kept_correct <= min(part.kept, part.correct)


def test_demonstrations_among_the_questions() -> None:
    questions = [Question(0, "a"), Question(1, "b"), Question(2, "a")]
    shown = [Demonstration(7, "a", "x"), Demonstration(8, "z", "y")]
    assert audit.demonstrations_among(shown, questions) == [(7, 0), (7, 2)]


def test_rows_without_answer() -> None:
    assert audit.without_answer([Answer(0, "q", "a=1"), Answer(1, "q", "a")], RULE) == [1]
