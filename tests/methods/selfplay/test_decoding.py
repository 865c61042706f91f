"""The decoder: thresholds, what the judge is shown, what it may pass on, and when it ends."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from players import CANDIDATES, CARD, Rule, Stage, Table
from strop.evaluation.surface import words_of
from strop.methods.selfplay.decoding import leaks, rounds_without_progress, screen_feedback, secret_runs, true_fields
from strop.methods.selfplay.session_record import Decoding

PRINCIPLES = CANDIDATES[0].principles


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_the_threshold_itself_passes_and_less_fails(stage: Stage) -> None:
    """0.8999 fails, 0.9 passes: the coping strategies fail alone, at 0.9 the belief passes."""
    matcher = Table({CARD.coping_strategies: 0.8999, CARD.intermediate_belief: 0.9})
    record = stage.play(matcher=matcher, extra_rounds=0)
    first = record.decoding[0]
    assert first.similarities["coping_strategies"] == 0.8999
    assert [field for field, passed in first.passed.items() if not passed] == ["coping_strategies"]
    assert (record.stopped, len(record.decoding), record.exchanges) == ("cap", 1, 4)


@pytest.mark.parametrize(
    ("low", "calls"),
    [
        ((CARD.coping_strategies,), 1),
        ((CARD.intermediate_belief, CARD.coping_strategies, CARD.automatic_thought), 1),
        ((PRINCIPLES[0],), 1),
        ((CARD.coping_strategies, PRINCIPLES[0]), 2),
    ],
)
def test_only_failed_fields_reach_the_judge_in_one_call_for_cognition_and_one_for_behaviour(
    stage: Stage, low: tuple[str, ...], calls: int
) -> None:
    stage.play(matcher=Table(dict.fromkeys(low, 0.5)), extra_rounds=1)
    asked = stage.of("judge", "feedback")
    assert len(asked) == calls
    shown = "\n".join(request.text for request in asked)
    for text in (CARD.intermediate_belief, CARD.coping_strategies, CARD.automatic_thought, PRINCIPLES[0]):
        assert (text in shown) == (text in low)
    assert all((PRINCIPLES[0] in request.text) != (CARD.coping_strategies in request.text) for request in asked[:2])


def test_it_ends_when_everything_passes_and_at_the_cap(tmp_path: Path) -> None:
    """9 exchanges at most; the judge is asked 5 times, not 6: nobody would hear the questions of the last round."""
    for name in ("never", "third"):
        (tmp_path / name).mkdir()
    stage = Stage(tmp_path / "never")
    record = stage.play(matcher=Table({"Checks": 0.1}), no_progress=None)
    assert (record.stopped, record.exchanges, len(record.decoding)) == ("cap", 9, 6)
    assert len(stage.of("judge", "feedback")) == 5
    assert record.decoding[-1].feedback == ""
    rules: dict[tuple[str, str], Rule] = {
        ("therapist", "probe"): lambda call: "It is clear now." if len(call.prompt) >= 14 else "It is dim."
    }
    record = Stage(tmp_path / "third").play(rules, matcher=Table({"dim": 0.1, "clear": 0.95}))
    assert (record.stopped, record.exchanges, len(record.decoding)) == ("converged", 6, 3)


def test_it_ends_without_progress(stage: Stage) -> None:
    record = stage.play(matcher=Table({"Checks": 0.1}), no_progress=2)
    assert (record.stopped, record.exchanges, len(record.decoding)) == ("no_progress", 6, 3)


def rounds(*values: tuple[float | None, ...]) -> list[Decoding]:
    return [
        Decoding(
            number,
            {},
            {str(place): value for place, value in enumerate(row)},
            {str(place): value is not None and value >= 0.9 for place, value in enumerate(row)},
        )
        for number, row in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("made", "stale"),
    [
        (rounds((0.1, 0.1)), 0),
        (rounds((0.1, 0.1), (0.1, 0.1)), 1),
        (rounds((0.1, 0.1), (0.1, 0.11)), 1),
        (rounds((0.1, 0.1), (0.2, 0.2)), 0),
        (rounds((0.5, 0.5), (0.1, 0.1), (0.4, 0.4)), 2),
        (rounds((0.5, 0.5), (0.1, 0.95)), 0),
        (rounds((None, None), (None, None), (None, None)), 2),
        (rounds((None, 0.5), (0.5, 0.5)), 1),
        (rounds((0.1, 0.1), (0.1, 0.1), (0.9, 0.1), (0.9, 0.1)), 1),
    ],
)
def test_progress(made: list[Decoding], stale: int) -> None:
    """A round counts when a further field passes or the mean rises by 0.01; a mean of 0.105 after 0.1 does not."""
    assert rounds_without_progress(made, least=0.01) == stale


def test_a_probe_without_an_answer_has_no_similarity_and_does_not_pass(stage: Stage) -> None:
    rules: dict[tuple[str, str], Rule] = {
        ("therapist", "probe"): lambda call: "" if "how the patient copes" in call.prompt[-1].content else "Well."  # type: ignore[union-attr]
    }
    record = stage.play(rules, extra_rounds=0, turn_tries=3)
    found = record.decoding[0]
    assert found.similarities["coping_strategies"] is None
    assert found.passed["coping_strategies"] is False
    assert found.similarities["situation"] == 1.0
    assert [entry.why for entry in record.ledger] == ["empty"] * 3
    assert "Coping" not in record.decoded


def test_probes_leave_the_dialogue_alone_and_go_together(stage: Stage) -> None:
    record = stage.play(matcher=Table({"Checks": 0.1}), extra_rounds=1)
    probes = stage.of("therapist", "probe")
    assert len(probes) == 10
    answer = record.decoding[0].answers["coping_strategies"]
    assert not any(answer in asked.text for asked in stage.of("therapist"))
    assert len({asked.messages[:-1] for asked in probes[:5]}) == 1, "one dialogue, five questions"
    assert record.decoded.count("\n") == 4


def test_a_field_that_the_card_leaves_empty_is_not_asked_about(stage: Stage) -> None:
    card = replace(CARD, intermediate_belief_depression="")
    record = stage.play(card=card)
    assert len(stage.of("therapist", "probe")) == 4
    assert "intermediate_belief_depression" not in record.decoding[0].similarities


def test_what_is_compared() -> None:
    truth = true_fields(CARD, PRINCIPLES)
    assert truth["situation"] == (
        "Automatic Thoughts: Something terrible will happen and it will be my fault again.\n"
        "Emotions: anxious, scared, guilty, ashamed\n"
        "Behavior: Said that she had to work and then lay awake the whole night."
    )
    assert truth["principles"] == "Answer with few words at first. Look away when asked about the fire."


SECRET = "Checks the stove many times and stays at home when she is tired."
LEAK = "She checks the stove many times and stays at home."


def test_seven_words_in_a_row_of_a_secret_are_a_leak() -> None:
    """The first question holds seven: checks the stove many times and stays; the second one holds six."""
    runs = secret_runs([SECRET])
    assert leaks("Ask: CHECKS the stove, many times -- and stays?", runs)
    assert not leaks("Ask: checks the stove many times and goes?", runs)


def test_a_short_secret_leaks_as_a_whole() -> None:
    runs = secret_runs(["I am a burden.", "I fail.", "sad"])
    assert leaks("Does she think: I am a burden?", runs)
    assert not leaks("Is she sad, does she fail?", runs), "three words and fewer are everybody's"


@pytest.mark.parametrize(
    ("reply", "told", "leaked"),
    [
        ("What do you do when you are tired?", "What do you do when you are tired?", 0),
        (f"What do you do?\n{LEAK}", "What do you do?", 1),
        (f"{LEAK} What do you do?", "What do you do?", 1),
        ("The notes say more. What do you do?", "What do you do?", 0),
        ("1. What do you do?\n2. And then?", "What do you do?\nAnd then?", 0),
        ("Ask about MARKER", "Ask about MARKER", 0),
        ("Does she check the stove? Many times and stays at home when she is tired?", "Does she check the stove?", 1),
        ("Checks the stove many? Times and stays at home?", "Checks the stove many?", 1),
        ("Checks the stove? Truly. Many times and stays at home?", "Checks the stove?", 1),
        ("", "", 0),
        ("...", "", 0),
        (LEAK, "", 1),
    ],
)
def test_feedback_loses_its_leaks_and_what_is_no_question(reply: str, told: str, leaked: int) -> None:
    found = screen_feedback(reply, [SECRET])
    assert (found.text, len(found.leaked)) == (told, leaked)


@given(
    st.lists(
        st.one_of(st.sampled_from(words_of(SECRET)), st.sampled_from([".", "?", "\n", "Why", "1.", "!"])), max_size=40
    )
)
def test_no_run_of_seven_words_of_a_secret_ever_passes(words: list[str]) -> None:
    found = screen_feedback(" ".join(words), [SECRET])
    assert not leaks(found.text, secret_runs([SECRET]))


def test_a_judge_that_leaks_is_asked_once_more_and_what_still_leaks_is_taken_out(stage: Stage) -> None:
    leak = f"{CARD.coping_strategies} What does she do when tired?"
    record = stage.play({("judge", "feedback"): leak}, matcher=Table({"Checks": 0.1}), extra_rounds=1)
    asked = stage.of("judge", "feedback")
    assert [request.call.sample for request in asked] == [0, 1]
    assert asked[1].call.sampling.temperature > 0, "a greedy judge would say the same again"
    assert record.decoding[0].feedback == "What does she do when tired?"
    assert len(record.decoding[0].leaked) == 2
    assert not any(CARD.coping_strategies in request.text for request in stage.of("therapist"))


def test_a_judge_with_nothing_to_say_leaves_the_therapist_to_its_plan(stage: Stage) -> None:
    record = stage.play({("judge", "feedback"): ""}, matcher=Table({"Checks": 0.1}), extra_rounds=1)
    assert record.decoding[0].feedback == ""
    assert (record.exchanges, record.status) == (5, "complete")
    assert "still unclear" in stage.of("therapist", "turn")[-1].text


def test_the_judge_is_told_what_was_asked_before(stage: Stage) -> None:
    rules: dict[tuple[str, str], Rule] = {("judge", "feedback"): ["And zqone?", "And zqtwo?"]}
    stage.play(rules, matcher=Table({"Checks": 0.1}), extra_rounds=2, no_progress=None)
    first, second = stage.of("judge", "feedback")
    assert "zqone" not in first.text
    assert "zqone" in second.text
