"""Comparisons in both orders: nobody's side, nobody's name, and failures that stay failures."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.judging.contest.arena import CPU, PADDED, PLAIN, PROMPTS, answers, contest, put, settings_of

from strop.errors import Stopped, UserError
from strop.judging.contest.duels import read_comparisons, sides
from strop.judging.parsing import ParseFailure
from strop.models.rewards import open_reward
from strop.runs import Run, Stage

Scripted = Callable[..., str]
Opened = Callable[[str], Run]

FAIR = {rf"(?s){PADDED}.*{PLAIN}": "Verdict: B", rf"(?s){PLAIN}\W.*{PADDED}": "Verdict: A"}
"""Prefers the plain answer in both orders."""


def copy(stage: Stage, folder: Path) -> None:
    """Hold a reward model as a training's stage does."""
    shutil.copytree(folder, stage.folder / "model")


def test_the_verdicts_are_the_contestants_whoever_stood_first(run: Run, scripted: Scripted) -> None:
    """Who stands first is drawn for each prompt, and turned back behind the judge."""
    first, second = (
        answers(run, scripted("a", default="x"), "first"),
        answers(run, scripted("b", default="y"), "second"),
    )
    made, told = contest(
        run, first, second, settings_of(scripted("judge", {r"(?s)\bx\b.*\by\b": "Verdict: A"}, "Verdict: B"))
    )
    assert told["sign"]["wins"] == len(PROMPTS)
    assert {row["verdict"] for row in made.rows()} == {"first"}


def test_a_judge_that_takes_the_side_shown_first_favours_nobody(run: Run, scripted: Scripted) -> None:
    """Every pair of orders disagrees: ties, all of them flips."""
    first, second = (
        answers(run, scripted("a", default="x"), "first"),
        answers(run, scripted("b", default="y"), "second"),
    )
    made, told = contest(run, first, second, settings_of(scripted("judge", default="Verdict: A")))
    assert {row["verdict"] for row in made.rows()} == {"tie"}
    assert {(row["forward"], row["backward"]) for row in made.rows()} == {("first", "second")}
    assert told["summary"]["flips"]["estimate"] == 1.0
    assert told["summary"]["shown_first"]["estimate"] == 1.0


def test_the_judge_is_not_told_who_wrote(run: Run, scripted: Scripted) -> None:
    first = answers(run, scripted("anna", default="x"), "anna")
    second = answers(run, scripted("berta", default="y"), "berta")
    contest(run, first, second, settings_of(scripted("judge", default="Verdict: tie")))
    with closing(sqlite3.connect(run.store.path)) as connection:
        asked = [row[0] for row in connection.execute("SELECT request FROM calls") if "erdict" in row[0]]
    assert len(asked) == 2 * len(PROMPTS)
    assert not any(word in text for text in asked for word in ("anna", "berta", "scripted"))


def test_only_what_both_have_answered_is_compared(run: Run, scripted: Scripted) -> None:
    """The first has no reply to 3, the second none to 3 and 5: 22 comparisons, and the others are counted."""
    first = answers(run, scripted("a", {r"message (?!3\.)\d+\.$": PLAIN}), "first")
    second = answers(run, scripted("b", {r"message (?![35]\.)\d+\.$": PADDED}), "second")
    made, told = contest(run, first, second, settings_of(scripted("judge", FAIR, "Verdict: tie")))
    assert {row["id"] for row in PROMPTS} - {row["id"] for row in made.rows()} == {"q3", "q5"}
    counts = {"prompts": 24, "groups": 12, "compared": 22, "unanswered": {"first": 1, "second": 2}}
    assert {key: told["counts"][key] for key in counts} == counts
    assert {(row["words_first"], row["words_second"]) for row in made.rows()} == {(3, 10)}
    assert told["win_rate"]["raw"]["estimate"] == 1.0


def test_nothing_in_common_is_an_error_that_says_where_to_look(run: Run, scripted: Scripted) -> None:
    first = answers(run, scripted("a", {r"message 1\.$": "x"}), "first")
    second = answers(run, scripted("b", {r"message 2\.$": "x"}), "second")
    with pytest.raises(UserError, match=r"no prompt in common(?s:.*)failures\.jsonl"):
        contest(run, first, second, settings_of(scripted("judge", default="Verdict: A")))


def test_an_unreadable_verdict_is_missing_and_keeps_its_kind(run: Run, scripted: Scripted) -> None:
    """Of message 4 the judge says nothing usable: no tie, no loss, one comparison less."""
    first, second = (
        answers(run, scripted("a", default=PLAIN), "first"),
        answers(run, scripted("b", default=PADDED), "second"),
    )
    rules = {r"message 4\.": "lovely weather", **FAIR}
    made, told = contest(run, first, second, settings_of(scripted("judge", rules)))
    (failed,) = [one for one in read_comparisons(made.rows()) if one.verdict is None]
    assert failed.id == "q4"
    assert isinstance(failed.forward, ParseFailure)
    assert isinstance(failed.backward, ParseFailure)
    assert (told["win_rate"]["n"], told["win_rate"]["left_out"], told["summary"]["failed"]) == (23, 1, 1)
    assert told["sign"]["wins"] == 23


def test_a_judge_that_babbles_stops_the_run(run: Run, scripted: Scripted) -> None:
    first, second = (
        answers(run, scripted("a", default="x"), "first"),
        answers(run, scripted("b", default="y"), "second"),
    )
    with pytest.raises(Stopped):
        contest(run, first, second, settings_of(scripted("judge", default="how lovely")))


def test_comparisons_are_read_as_they_were_made(run: Run, scripted: Scripted) -> None:
    """By each criterion as well: seven verdicts a comparison, mirrored back like the verdict itself."""
    first, second = (
        answers(run, scripted("a", default=PLAIN), "first"),
        answers(run, scripted("b", default=PADDED), "second"),
    )
    made, told = contest(run, first, second, settings_of(scripted("judge", FAIR), per_criterion=True))
    for one in read_comparisons(made.rows()):
        assert (one.verdict, one.forward, one.backward) == ("first", "first", "first")
        assert len(one.criteria) == 7
        assert set(one.criteria.values()) == {"first"}
    assert [row["win_rate"]["estimate"] for row in told["criteria"]] == [1.0] * 7


def test_a_reward_model_that_the_run_has_trained_judges(run: Run, scripted: Scripted, tiny_reward: Path) -> None:
    """Its verdicts are the signs of the rewards' differences, the same in both orders."""
    rules = [
        {rf"message {digit}\.$": text for digit, text in enumerate(texts)}
        for texts in (["i feel sad", "calm", "why ?"], ["stop", "i know", "why ?"])
    ]
    first, second = (
        answers(run, scripted(side, rule), side) for side, rule in zip(("first", "second"), rules, strict=True)
    )
    trained = run.stage(copy, tiny_reward, name="reward-model")
    made, told = contest(run, first, second, trained)
    reward = open_reward(tiny_reward, CPU)
    given = [[row["response"] for row in side.rows()] for side in (first, second)]
    scores = [
        reward.score([(row["prompt"], text) for row, text in zip(PROMPTS, texts, strict=False)]) for texts in given
    ]
    expected = [*("first" if a > b else "second" for a, b in list(zip(*scores, strict=True))[:2]), "tie"]
    rows = made.rows()
    assert [row["verdict"] for row in rows] == expected
    assert [row["forward"] for row in rows] == [row["backward"] for row in rows] == expected
    assert rows[2]["strength"] == 0.5
    assert all((row["strength"] > 0.5) == (row["verdict"] == "first") for row in rows)
    assert told["judge"]["revision"] == reward.revision
    assert json.loads(made.path("judge.json").read_text())["revision"] == reward.revision


def test_sides_keep_their_names(run: Run) -> None:
    one, other = run.stage(put, [], name="one"), run.stage(put, [{"id": 1}], name="other")
    assert sides(one, other) == (("first", one), ("second", other))
