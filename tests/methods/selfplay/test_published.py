"""The released pattern of calls: its counts, its leak, its lost feedback, and what its record holds."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from players import CARD, Rule, Stage, Table
from strop.methods.selfplay.cards import symptom_text
from strop.methods.selfplay.published import first_integer, published_session
from strop.methods.selfplay.session_record import SessionRecord


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def release(stage: Stage, rules: dict[tuple[str, str], Rule] | None = None, **more: Any) -> SessionRecord:
    # Our players know a turn by its last message; here that is the whole card, or the therapist's own instructions.
    return stage.play(rules, episode=published_session, **more)


@pytest.mark.parametrize(
    ("similarity", "score", "calls", "judged"),
    [(1.0, "9", 26, 4), (1.0, "5", 62, 16), (0.1, "9", 73, 16), (0.1, "5", 109, 28)],
)
def test_the_calls_of_the_four_scripts(stage: Stage, similarity: float, score: str, calls: int, judged: int) -> None:
    """26 and 4 of the judge at best; 12 more tries of 3 calls; 5 rounds of 7 calls and 6 x 2 feedback; both."""
    record = release(stage, {("judge", "score"): score}, matcher=Table(otherwise=similarity))
    assert len(stage.asked) == calls
    assert Counter(asked.to == "judge" for asked in stage.asked)[True] == judged
    assert record.exchanges == (4 if similarity == 1.0 else 9)
    assert record.status == "complete"


def test_the_therapist_sees_a_copy_of_the_card_for_every_turn_of_the_patient(stage: Stage) -> None:
    release(stage, matcher=Table(otherwise=0.1))
    copies = [asked.text.count(CARD.history) for asked in stage.of("therapist", "turn")]
    assert copies == list(range(1, 10))


def test_feedback_reaches_nobody_and_probes_stay(stage: Stage) -> None:
    record = release(stage, {("judge", "feedback"): "Ask about zqone."}, matcher=Table(otherwise=0.1))
    assert record.decoding[0].feedback == "Ask about zqone." * 2
    assert not any("zqone" in asked.text for asked in stage.asked)
    answer = record.decoding[0].answers["coping_strategies"]
    assert answer in stage.of("therapist", "turn")[-1].text


def test_the_record(stage: Stage) -> None:
    record = release(stage, {("patient", "reduce"): "Doctor 2's diagnosis"})
    assert record.symptom == symptom_text(CARD, emotions="repr")
    assert "Emotions: ['anxious, scared', 'guilty, ashamed']" in record.symptom
    assert record.illness == "Doctor 2's diagnosis", "as released: the last call sees only an argument"
    assert (record.treatment, record.explain_t, record.medicine, record.explain_m) == (
        "Therapy",
        "It helps.",
        "Drug",
        "It calms.",
    )
    assert SessionRecord.from_row(record.to_row()) == record


def test_scores_are_read_as_released_except_that_none_is_no_zero(stage: Stage) -> None:
    assert first_integer("on a scale of 1 to 10, 8") == 1
    assert first_integer("8/10") == 8
    assert first_integer("none") is None
    record = release(stage, {("judge", "score"): "none"})
    assert {plan.score for plan in record.treatments} == {None}
    assert (record.treatment, record.status) == ("", "failed")
    assert record.failure is not None
    assert record.failure.kind == "no_score"


def test_every_request_alternates(stage: Stage) -> None:
    release(stage, matcher=Table(otherwise=0.1))
    for asked in stage.of("therapist"):
        roles = [message.role for message in asked.messages]
        assert roles == (["user", "assistant"] * len(roles))[: len(roles)]


def test_empty_answers_are_compared_with_nothing(stage: Stage) -> None:
    record = release(stage, {("therapist", "probe"): ""}, extra_rounds=0)
    assert set(record.decoding[0].similarities.values()) == {None}


@pytest.mark.parametrize(("similarity", "score"), [(1.0, "9"), (1.0, "5"), (0.1, "9"), (0.1, "5")])
def test_a_session_needs_at_most_a_third_of_the_released_words(tmp_path: Path, similarity: float, score: str) -> None:
    """The four scripts, with the same exchanges and the same players; words of all requests."""
    rules: dict[tuple[str, str], Rule] = {("judge", "score"): score}
    words: list[int] = []
    for name in ("ours", "released"):
        (tmp_path / name).mkdir()
        stage = Stage(tmp_path / name)
        options: dict[str, Any] = {"matcher": Table(otherwise=similarity), "no_progress": None}
        record = stage.play(rules, **options) if name == "ours" else release(stage, rules, **options)
        assert record.exchanges == (9 if similarity < 0.9 else 4)
        words.append(sum(len(asked.text.split()) for asked in stage.asked))
    assert words[0] * 3 <= words[1]
