"""The watch: measures by hand, intervals by speech, what raises an alarm and what does not."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.errors import UserError
from strop.evaluation.watching import Watched
from strop.methods.preference.online_config import WatchLimits
from strop.methods.preference.watch import Look, Measures, distinct_2, watched

VOCABULARY = [f"word{number}" for number in range(400)]
OFF = dict.fromkeys(WatchLimits.model_fields)


def said(seed: int, *, words: int = 30, end: str = "", count: int = 40, vocabulary: int = 400) -> list[str]:
    """Answers of random words."""
    random = Random(seed)
    return [
        " ".join(random.choices(VOCABULARY[:vocabulary], k=words + random.randrange(7))) + end for _ in range(count)
    ]


def looks(texts: list[str], *, cut: float = 0.0, ratio: float | None = 0.0) -> list[Look]:
    """Look at answers to s0, s1, ...; the first share `cut` was cut, each is about `ratio` nats a token away."""
    return [
        Look.at(
            f"s{place}",
            text,
            cut=place < cut * len(texts),
            log_ratio=None if ratio is None else ratio * 50 + math.sin(place),
            tokens=50,
        )
        for place, text in enumerate(texts)
    ]


def broken(now: list[Look], start: list[Look], **limits: Any) -> set[str]:
    found = watched(now, start, WatchLimits(**limits), np.random.default_rng(0))
    return {one.measure for one in found if one.broken}


def test_measures_by_hand() -> None:
    """`a b a b` has pairs ab, ba, ab and `c` none: 2 of 3 different, 2.5 words, 1 of 2 cut; (3 - 1) / (4 + 1) nats."""
    first = Look.at("s0", "a b a b", cut=True, log_ratio=3.0, tokens=4)
    second = Look.at("s1", "c", cut=False, log_ratio=-1.0, tokens=1)
    measures = Measures.of([first, second])
    assert measures == Measures(2, 2.5, 2 / 3, 0.0, 0.0, 0.0, 0.0, 0.5, kl=2 / 5, kl_answer=1.0)


def test_the_same_answers_break_nothing() -> None:
    start = looks(said(0))
    assert broken(start, start) == set()


def test_other_answers_of_the_same_kind_break_nothing() -> None:
    assert broken(looks(said(1), ratio=0.1), looks(said(0))) == set()


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (looks(said(1, words=70)), "length_ratio"),
        (looks(said(1, words=6)), "shortness_ratio"),
        (looks(said(1, vocabulary=12)), "distinct_2_ratio"),
        (looks(said(1)[:1] * 40), "distinct_2_ratio"),
        (looks([f"{text} " * 2 for text in said(1, words=15)]), "repetition"),
        (looks(said(1, end="\nUser: and then?")), "invented_turns"),
        (looks(said(1, end=" I'm unable to help you.")), "refusals"),
        (looks(["" if place % 2 else text for place, text in enumerate(said(1))]), "empty"),
        (looks(said(1), cut=0.6), "cut"),
        (looks(said(1), ratio=0.9), "kl"),
    ],
)
def test_each_limit_breaks(now: list[Look], expected: str) -> None:
    start = looks(said(0))
    assert expected in broken(now, start)
    assert expected not in broken(now, start, **OFF)


def test_one_odd_answer_of_a_few_is_no_alarm() -> None:
    """One invented turn in eight answers lies beyond the limit of a tenth, and says nothing about the policy."""
    now = looks([*said(1, count=7), "Yes.\nUser: no"])
    start = looks(said(0, count=8))
    found = {one.measure: one for one in watched(now, start, WatchLimits(), np.random.default_rng(0))}
    assert found["invented_turns"].interval.estimate == pytest.approx(1 / 8)
    assert not found["invented_turns"].broken


def test_longer_answers_are_not_duller() -> None:
    """Distinct-2 counts the first words of each answer, so length alone does not move it."""
    assert "distinct_2_ratio" not in broken(looks(said(1, words=400)), looks(said(0)), length_ratio=None)


def test_told_in_words() -> None:
    found = watched(looks(said(1, words=70)), looks(said(0)), WatchLimits(), np.random.default_rng(0))
    length = found[0]
    assert length.told == f"answers have {length.interval.estimate:.2f} times their first length (limit 1.8)"
    row = length.to_row()
    assert row["low"] < row["value"] < row["high"]
    assert row["broken"] is True


def test_interval_of_the_variety_is_as_wide_as_its_spread() -> None:
    """The jackknife's standard error against the standard deviation over 60 fresh pairs of sets."""
    pairs = [(looks(said(seed, vocabulary=40)), looks(said(seed + 1000, vocabulary=60))) for seed in range(60)]
    spread = float(np.std([distinct_2(now) / distinct_2(start) for now, start in pairs]))
    widths = []
    for now, start in pairs[:10]:
        found = watched(now, start, WatchLimits(), np.random.default_rng(0))
        (variety,) = [one for one in found if one.measure == "distinct_2_ratio"]
        widths.append(variety.interval.half_width / 2.02)
    assert float(np.mean(widths)) == pytest.approx(spread, rel=0.5)


def test_divergence_that_was_not_measured_is_not_watched() -> None:
    found = watched(looks(said(1), ratio=None), looks(said(0)), WatchLimits(), np.random.default_rng(0))
    assert "kl" not in {one.measure for one in found}
    assert Measures.of(looks(said(1), ratio=None)).kl is None


@pytest.mark.parametrize("ratio", [math.nan, math.inf])
def test_a_divergence_that_is_no_number(ratio: float) -> None:
    now = [Look.at("s0", "a", cut=False, log_ratio=ratio, tokens=1)]
    with pytest.raises(UserError, match="not a number"):
        watched(now, now, WatchLimits(), np.random.default_rng(0))


def test_other_speeches_are_not_compared() -> None:
    with pytest.raises(UserError, match="same speeches"):
        watched(looks(said(1)), looks(said(0))[:-1], WatchLimits(), np.random.default_rng(0))


def test_no_answers() -> None:
    with pytest.raises(UserError, match="no answer"):
        watched([], [], WatchLimits(), np.random.default_rng(0))


def test_empty_answers_that_stay_empty_have_not_become_shorter() -> None:
    empty = [Look.at(n, "", cut=False, log_ratio=0.0, tokens=1) for n in range(2)]
    found = watched(empty, empty, WatchLimits(), np.random.default_rng(0))
    assert not any(one.broken for one in found)


TEXTS = st.text(st.sampled_from("ab .\n:USERuser"), max_size=40)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS, st.booleans(), st.floats(-5, 5)), min_size=1, max_size=6))
def test_any_answers_can_be_watched(rows: list[tuple[str, str, bool, float]]) -> None:
    """Shares stay shares, the same answers never break a limit, and every estimate is a number."""
    now = [Look.at(n, text, cut=cut, log_ratio=ratio, tokens=3) for n, (text, _, cut, ratio) in enumerate(rows)]
    start = [Look.at(n, text, cut=cut, log_ratio=0.0, tokens=3) for n, (_, text, cut, _) in enumerate(rows)]
    found = watched(now, start, WatchLimits(), np.random.default_rng(0))
    assert all(math.isfinite(one.interval.estimate) for one in found)
    measures = Measures.of(now)
    for share in (measures.distinct_2, measures.repetition, measures.invented_turns, measures.empty, measures.cut):
        assert 0 <= share <= 1
    same = watched(start, start, WatchLimits(), np.random.default_rng(0))
    assert not any(one.broken for one in same)


def test_watched_is_json() -> None:
    found = watched(looks(said(1)), looks(said(0)), WatchLimits(), np.random.default_rng(0))
    assert all(isinstance(one, Watched) for one in found)
    assert {one.to_row()["measure"] for one in found} == set(WatchLimits.model_fields)
