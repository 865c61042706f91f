"""Diagnosis by index, plans by score: the table of the specification, states that are carried, and defined ends."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from players import Rule, Stage
from strop.methods.selfplay.plans import best_plan
from strop.methods.selfplay.session_record import PlanTry


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.mark.parametrize(
    ("scores", "tried", "best"),
    [
        (["5", "7", "9"], 3, 2),
        (["9"], 1, 0),
        (["10"], 1, 0),
        (["5"], 7, 0),
        (["1", "1", "1", "2"], 7, 3),
        (["4", "8", "8", "3"], 7, 1),
        (["On a scale of 1 to 10, 8", "Score: 8", "8/10"], 7, 0),
        (["11", "-1", "0", "6"], 7, 3),
    ],
)
def test_the_scoring_table(stage: Stage, scores: list[str], tried: int, best: int) -> None:
    """Up to 7 tries, an end at 9, the earlier one of equals; a reply that is no score is asked for once more here."""
    record = stage.play({("judge", "score"): scores}, medicine=False, judge={"again": 0})
    assert len(record.treatments) == tried
    assert record.best_treatment == best
    assert record.treatment == record.treatments[best].plan
    assert len(stage.of("therapist", "treatment")) == tried


@pytest.mark.parametrize("reply", ["none", "0", "11", "I feel fine", ""])
def test_no_readable_score_is_no_treatment_and_no_zero(stage: Stage, reply: str) -> None:
    record = stage.play({("judge", "score"): reply}, tries=3)
    assert {plan.score for plan in record.treatments} == {None}
    assert (record.status, record.best_treatment, record.treatment, record.explain_t) == ("partial", None, "", "")
    assert record.illness == "Obsessive-Compulsive Disorder"
    assert [entry.why for entry in record.ledger] == ["no_score"] * 12, "3 + 3 states, each asked about twice"


def test_a_score_that_cannot_be_read_is_asked_for_again(stage: Stage) -> None:
    record = stage.play({("judge", "score"): ["well", "9"]})
    assert [plan.score for plan in record.treatments] == [9]
    assert [entry.why for entry in record.ledger] == ["no_score"]


STATES = [f"I am at state zqs{number}, better than before." for number in range(20)]


def test_the_state_is_carried_from_plan_to_plan(stage: Stage) -> None:
    """S1 to S3 by the treatments, scored 5, 7, 6; medicine starts from S2, where the best one left the patient."""
    rules: dict[tuple[str, str], Rule] = {
        ("patient", "outcome"): STATES,
        ("judge", "score"): ["5", "7", "6", "5", "6", "7"],
    }
    record = stage.play(rules, tries=3)
    assert [plan.state for plan in record.treatments] == STATES[:3]
    told = [asked.text for asked in stage.of("patient", "outcome")]
    carried = [[number for number in range(6) if f"zqs{number}" in text] for text in told]
    assert carried == [[], [0], [1], [1], [3], [4]]
    assert (record.best_treatment, record.best_medicine) == (1, 2)


def test_restart_starts_every_plan_from_the_card(stage: Stage) -> None:
    rules: dict[tuple[str, str], Rule] = {("patient", "outcome"): STATES, ("judge", "score"): ["5"]}
    stage.play(rules, tries=3, treatment_state="restart")
    assert not any("zqs" in asked.text for asked in stage.of("patient", "outcome"))


def test_the_therapist_is_told_what_was_tried_and_neither_state_nor_score(stage: Stage) -> None:
    rules: dict[tuple[str, str], Rule] = {("patient", "outcome"): STATES, ("judge", "score"): "5"}
    record = stage.play(rules, tries=3)
    asked = [request.text for request in stage.of("therapist", "treatment")]
    names = [plan.plan for plan in record.treatments]
    assert [[name in text for name in names] for text in asked] == [
        [False, False, False],
        [True, False, False],
        [True, True, False],
    ]
    assert not any("zqs" in request.text for request in stage.of("therapist"))


def test_a_plan_that_cannot_be_read_is_a_try_and_asks_nobody(stage: Stage) -> None:
    record = stage.play({("therapist", "treatment"): ["", "I cannot help you.", "Treatment: CBT\nExplanation: Yes."]})
    assert [plan.plan for plan in record.treatments] == ["", "", "CBT"]
    assert [plan.score for plan in record.treatments] == [None, None, 9]
    assert [asked.call.sample for asked in stage.of("therapist", "treatment")] == [0, 1, 2]
    assert len(stage.of("patient", "outcome")) == 1 + 1
    assert [entry.why for entry in record.ledger] == ["no_treatment"] * 2


def test_the_same_plan_again_is_another_sample(stage: Stage) -> None:
    record = stage.play(
        {("therapist", "treatment"): "Treatment: CBT", ("judge", "score"): "5"}, tries=4, medicine=False
    )
    assert [plan.plan for plan in record.treatments] == ["CBT"] * 4
    assert [asked.call.sample for asked in stage.of("therapist", "treatment")] == [0, 0, 1, 2]


def test_no_medicine_is_an_outcome(stage: Stage) -> None:
    record = stage.play({("therapist", "medicine"): "Medicine: None needed.\nExplanation: It is mild."})
    assert (record.medicine, record.explain_m, record.status) == ("none needed", "It is mild.", "complete")


@pytest.mark.parametrize(
    ("reply", "chosen"), [("Choice: 1", 0), ("Choice: 2", 1), ("Doctor 2's diagnosis is more accurate.", 1), ("2", 1)]
)
def test_the_illness_is_one_of_the_two_that_were_named(stage: Stage, reply: str, chosen: int) -> None:
    record = stage.play({("patient", "choice"): reply})
    assert record.chosen == chosen
    assert record.illness == ("Obsessive-Compulsive Disorder", "Generalised Anxiety Disorder")[chosen]


def test_a_patient_who_never_chooses_ends_the_session(stage: Stage) -> None:
    record = stage.play({("patient", "choice"): "Both diagnoses seem accurate."}, turn_tries=3)
    assert (record.status, record.chosen, record.illness) == ("failed", None, "")
    assert record.failure is not None
    assert record.failure.kind == "no_choice"
    assert len(record.diagnoses) == 2
    assert len(stage.of("patient", "choice")) == 3


def test_without_a_second_illness_the_first_one_stands(stage: Stage) -> None:
    record = stage.play({("therapist", "diagnosis"): "Diagnosis: Panic Disorder"}, turn_tries=2)
    assert (record.diagnoses, record.chosen, record.illness) == (("Panic Disorder",), 0, "Panic Disorder")
    assert stage.of("patient", "choice") == []
    assert [entry.why for entry in record.ledger] == ["same_diagnosis"] * 2


def test_without_any_illness_the_session_fails(stage: Stage) -> None:
    record = stage.play({("therapist", "diagnosis"): "Doctor 2's diagnosis"}, turn_tries=2)
    assert record.failure is not None
    assert (record.status, record.failure.kind, record.illness) == ("failed", "no_diagnosis", "")


def test_plans_without_a_diagnosis_name_no_illness(stage: Stage) -> None:
    record = stage.play(diagnosis=False)
    assert (record.status, record.illness) == ("complete", "")
    assert "for what troubles this patient" in stage.of("therapist", "treatment")[0].text


@given(st.lists(st.none() | st.integers(1, 10), max_size=8))
def test_the_best_plan_is_the_first_of_the_highest(scores: list[int | None]) -> None:
    found = best_plan([PlanTry("x", "", "", score) for score in scores])
    read = [score for score in scores if score is not None]
    assert found == (scores.index(max(read)) if read else None)
