"""A comparison in words and numbers: who is preferred, what cannot be told, and what a reader must know."""

from __future__ import annotations

from typing import Any

import pytest

from strop.judging.contest.results import Evaluation, compute
from strop.judging.contest.telling import (
    judge_table,
    win_rate_figures,
    win_rate_numbers,
    win_rate_verdicts,
    win_rate_warnings,
)
from strop.judging.judge import Comparison
from strop.judging.parsing import ParseFailure, Verdict
from strop.records.document import Bars

MIXED: list[float] = [3.0, -3.0]


def told(verdicts: list[Verdict | None], differences: list[float], **criteria: Verdict) -> dict[str, Any]:
    failure = ParseFailure("empty")
    made = [
        Comparison(str(place), verdict, verdict or failure, verdict or failure, criteria=criteria)
        for place, verdict in enumerate(verdicts)
    ]
    groups = [str(place) for place in range(len(made))]
    return compute(made, groups, differences, settings=Evaluation(resamples=200), seed=0)


def won(share: int, of: int = 20) -> dict[str, Any]:
    """Return what `share` wins of `of` come to, lengths alternating."""
    verdicts: list[Verdict | None] = ["first" if place < share else "second" for place in range(of)]
    return told(verdicts, MIXED * (of // 2))


@pytest.mark.parametrize(
    ("wins", "tone", "said"),
    [
        (16, "good", "anna is preferred to berta: 80.0%"),
        (4, "bad", "berta is preferred to anna: anna wins 20.0%"),
        (11, "unclear", "anna and berta are not distinguishable: anna wins 55.0%"),
    ],
)
def test_who_is_preferred(wins: int, tone: str, said: str) -> None:
    first, controlled, sign = win_rate_verdicts(won(wins), "anna", "berta")
    assert first.text.startswith(said)
    assert "n=20" in first.text
    assert (first.tone, controlled.tone) == (tone, tone)
    assert controlled.text.startswith("At equal length, ")
    assert sign.text.startswith(f"{wins} wins, {20 - wins} losses and 0 ties; exact sign test p = ")


def test_what_would_tell_is_said_only_where_nothing_does() -> None:
    assert "comparisons would tell" in next(win_rate_verdicts(won(11), "a", "b")).text
    assert "would tell" not in next(win_rate_verdicts(won(16), "a", "b")).text


def test_no_rate_at_equal_length_says_why() -> None:
    always = told(["first"] * 3, [1.0, 2.0, 3.0])
    assert [verdict.text for verdict in win_rate_verdicts(always, "a", "b")][1] == (
        "No rate at equal length: one contestant won every duel, so that nothing tells length from quality."
    )
    (bars,) = win_rate_figures(always)
    assert isinstance(bars, Bars)
    assert [bar.name for bar in bars.bars] == ["all criteria"]
    numbers = {number.name: number for number in win_rate_numbers(always, "results")}
    assert numbers["win_rate.length_controlled"].value is None
    assert "won every duel" in numbers["win_rate.length_controlled"].note


def test_a_judge_without_a_verdict_says_nothing_and_shows_nothing() -> None:
    silent = told([None, None], [1.0, -1.0])
    (verdict,) = win_rate_verdicts(silent, "a", "b")
    assert verdict.tone == "bad"
    assert list(win_rate_figures(silent)) == []
    numbers = {number.name: number.value for number in win_rate_numbers(silent, "results")}
    assert (numbers["win_rate.raw"], numbers["win_rate.length_controlled"]) == (None, None)
    assert numbers["judge.failures"] == 1.0
    assert any("2 comparisons have no verdict" in warning for warning in win_rate_warnings(silent))


def test_numbers_keep_their_prefix_their_origin_and_their_place() -> None:
    numbers = list(win_rate_numbers(told(["first", "tie"], MIXED, warmth="first"), "dpo-win-rate", prefix="dpo."))
    assert {number.artifact for number in numbers} == {"dpo-win-rate"}
    assert [number.name for number in numbers] == [
        "dpo.win_rate.raw",
        "dpo.win_rate.length_controlled",
        "dpo.judge.flips",
        "dpo.judge.failures",
        "dpo.judge.shown_first",
        "dpo.win_rate.warmth",
    ]
    assert [number.headline for number in numbers] == [True, True, True, False, False, False]
    hidden = win_rate_numbers(won(11), "x", headline=False)
    assert not any(number.headline for number in hidden)
    assert (numbers[0].value, numbers[0].n) == (0.75, 2)


def test_one_that_is_never_shorter_is_an_extrapolation() -> None:
    longer = told(["first", "second", "tie", "first"], [4.0, 2.0, 1.0, 3.0])
    assert any("never the shorter" in warning for warning in win_rate_warnings(longer))
    assert list(win_rate_warnings(won(11))) == []


def test_the_judge_in_a_table() -> None:
    """One pair of four without a verdict, in either order; no flips."""
    table = judge_table(told(["first", "second", None, "tie"], [1.0, -1.0, 2.0, -2.0])["summary"])
    cells: dict[Any, Any] = {row[0]: row[1] for row in table.rows}
    assert cells["comparisons without a verdict"] == 1
    flips, failures = cells["verdicts that change with the order (ties)"], cells["replies without a verdict"]
    assert (flips.value, failures.value) == (0.0, 0.25)
