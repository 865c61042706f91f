"""What comparisons come to: equal answers, padded answers, exchanged sides, and nothing at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.judging.contest.arena import PADDED, PLAIN, PROMPTS, answers, contest, settings_of

from strop.judging.contest.results import Evaluation, compute
from strop.judging.judge import Comparison
from strop.judging.parsing import ParseFailure, Verdict
from strop.runs import Run

Scripted = Callable[..., str]
Opened = Callable[[str], Run]

QUICK = Evaluation(resamples=200)
LONGER = {rf"(?s){PADDED}.*{PLAIN}\W": "Verdict: A", rf"(?s){PLAIN}\W.*{PADDED}": "Verdict: B"}
"""Takes the longer answer for the better one; answers of one length are a tie."""
ODD = {r"message \d*[13579]\.$": PADDED}
"""Pads every other answer."""


def said(*verdicts: Verdict | None) -> list[Comparison]:
    failure = ParseFailure("empty")
    return [
        Comparison(f"q{place}", verdict, verdict or failure, verdict or failure)
        for place, verdict in enumerate(verdicts)
    ]


def summed(*verdicts: Verdict | None, differences: list[float] | None = None) -> dict[str, Any]:
    made = said(*verdicts)
    return compute(made, [str(one.id) for one in made], differences or [0.0] * len(made), settings=QUICK, seed=0)


def test_identical_answers_are_half_and_half_before_any_judge_with_a_taste(run: Run, scripted: Scripted) -> None:
    """A judge that takes the longer answer and one that takes the side shown first find nothing to prefer."""
    first, second = (answers(run, scripted(side, default=PLAIN), side) for side in ("first", "second"))
    _, told = contest(run, first, second, settings_of(scripted("judge", LONGER, "Verdict: A")))
    assert told["win_rate"]["raw"]["estimate"] == 0.5
    assert told["win_rate"]["length_controlled"]["estimate"] == 0.5
    assert (told["sign"]["ties"], told["sign"]["p_value"]) == (len(PROMPTS), 1.0)


def test_a_copy_that_is_only_padded_wins_raw_and_not_at_equal_length(run: Run, scripted: Scripted) -> None:
    """Every other answer is padded and wins, the rest are the same text and tie: 18 of 24 points are .75 raw.

    At equal length the ties are what counts: one half. The weak prior on the slope leaves half a point of the padding.
    """
    first = answers(run, scripted("padded", ODD, PLAIN), "first")
    second = answers(run, scripted("plain", default=PLAIN), "second")
    _, told = contest(run, first, second, settings_of(scripted("judge", LONGER, "Verdict: tie")))
    assert told["win_rate"]["raw"]["estimate"] == 0.75
    assert told["win_rate"]["raw"]["low"] > 0.5
    assert told["win_rate"]["length_controlled"]["estimate"] == pytest.approx(0.5, abs=0.01)


def test_a_copy_that_is_only_padded_is_half_before_a_judge_without_a_taste_for_length(
    run: Run, scripted: Scripted
) -> None:
    first = answers(run, scripted("padded", ODD, PLAIN), "first")
    second = answers(run, scripted("plain", default=PLAIN), "second")
    _, told = contest(run, first, second, settings_of(scripted("judge", default="Verdict: A")))
    assert told["win_rate"]["raw"]["estimate"] == 0.5
    assert told["win_rate"]["length_controlled"]["estimate"] == pytest.approx(0.5, abs=1e-9)


def test_exchanging_the_sides_mirrors_everything_exactly(opened: Opened, scripted: Scripted) -> None:
    """Some wins, some losses, some ties, lengths on both sides: every share becomes 1 minus itself, to the last bit."""
    one = scripted("one", {r"message (1?[13579])\.$": PADDED, r"message 4\.$": "x"}, PLAIN)
    other = scripted("other", {r"message (1?[69])\.$": PADDED, r"message 20\.$": "x"}, PLAIN)
    judge = settings_of(scripted("judge", {**LONGER, r"(?s)Response A\W+x\W": "Verdict: A"}, "Verdict: tie"))
    told = []
    for name, models in (("straight", (one, other)), ("turned", (other, one))):
        run = opened(name)
        first, second = (answers(run, model, side) for model, side in zip(models, ("first", "second"), strict=True))
        told.append(contest(run, first, second, judge)[1])
    straight, turned = told
    for rate in ("raw", "length_controlled"):
        a, b = straight["win_rate"][rate], turned["win_rate"][rate]
        assert (a["estimate"], a["low"], a["high"]) == (1 - b["estimate"], 1 - b["high"], 1 - b["low"])
        assert a["estimate"] not in (0.0, 0.5, 1.0)
    assert (straight["sign"]["wins"], straight["sign"]["losses"]) == (turned["sign"]["losses"], turned["sign"]["wins"])
    assert straight["sign"]["p_value"] == turned["sign"]["p_value"]
    assert straight["summary"]["flips"]["estimate"] == turned["summary"]["flips"]["estimate"]


def test_a_word_limit_changes_both_contestants(opened: Opened, scripted: Scripted) -> None:
    """One pads unless it is told to be short: with a limit the difference is gone, and both were told."""
    shy = {"at most 40 words": PLAIN}
    talker, plain = scripted("first", {**shy, **ODD}, PLAIN), scripted("second", shy, PLAIN)
    judge = settings_of(scripted("judge", LONGER, "Verdict: tie"))
    rates = {}
    for limit in (None, 40):
        run = opened(f"limit-{limit}")
        first, second = (
            answers(run, model, side, word_limit=limit) for model, side in ((talker, "first"), (plain, "second"))
        )
        rates[limit] = contest(run, first, second, judge)[1]["win_rate"]["raw"]["estimate"]
    assert rates == {None: 0.75, 40: 0.5}


def test_by_hand() -> None:
    """Three wins, a loss, a tie and a failure: 3.5 of 5 are .7; the failure is nobody's."""
    told = summed("first", "first", "first", "second", "tie", None)
    assert told["win_rate"]["raw"]["estimate"] == pytest.approx(0.7)
    assert (told["win_rate"]["n"], told["win_rate"]["left_out"], told["win_rate"]["ties"]) == (5, 1, 1)
    assert (told["sign"]["wins"], told["sign"]["losses"], told["sign"]["ties"]) == (3, 1, 1)
    # 2 x (C(4, 3) + C(4, 4)) / 16
    assert told["sign"]["p_value"] == pytest.approx(0.625)
    assert told["summary"]["failed"] == 1


def test_one_that_wins_every_duel_has_no_rate_at_equal_length() -> None:
    told = summed("first", "first", "first", differences=[3.0, 5.0, 7.0])
    assert told["win_rate"]["raw"]["estimate"] == 1.0
    assert set(told["win_rate"]["length_controlled"]) == {"reason"}


def test_failures_alone_are_no_rate() -> None:
    told = summed(None, None)
    assert (told["win_rate"], told["sign"], told["criteria"]) == (None, None, [])
    assert told["summary"]["failed"] == 2


def test_a_criterion_without_a_verdict_has_no_rate() -> None:
    """Warmth is known of one comparison of two, clarity of none."""
    made = [
        Comparison("a", "first", "first", "first", criteria={"warmth": "second", "clarity": None}),
        Comparison("b", "first", "first", "first", criteria={"warmth": None, "clarity": None}),
    ]
    told = compute(made, ["a", "b"], [1.0, 2.0], settings=QUICK, seed=0)
    warmth, clarity = told["criteria"]
    assert (warmth["key"], warmth["win_rate"]["estimate"], warmth["failed"]) == ("warmth", 0.0, 1)
    assert (clarity["key"], clarity["win_rate"], clarity["failed"]) == ("clarity", None, 2)


def test_the_same_seed_gives_the_same_intervals() -> None:
    verdicts: list[Verdict] = ["first", "second", "tie", "first", "first", "second"]
    assert summed(*verdicts) == summed(*verdicts)
