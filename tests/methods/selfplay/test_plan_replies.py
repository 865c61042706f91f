"""Reading diagnoses, choices, plans and scores, however a model writes them; what offers nothing is None."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.methods.selfplay.plan_replies import (
    NONE_NEEDED,
    Proposal,
    read_choice,
    read_diagnosis,
    read_plan,
    read_score,
)


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        *((str(number), number) for number in range(1, 11)),
        ("8/10", 8),
        ("8 / 10", 8),
        ("8 out of 10", 8),
        ("10/10", 10),
        ("Score: 8", 8),
        ("**Score:** 8", 8),
        ("**8**", 8),
        ("Score: 8.", 8),
        ("8.0", 8),
        ("on a scale of 1 to 10, 8", 8),
        ("On a scale from 1 to 10, I would say 8.", 8),
        ("On a scale of 1-10: 8", 8),
        ("I would rate my health 7 on a scale of 1 to 10.", 7),
        ("(1-10): 6", 6),
        ("My score is 6 because two things are better.", 6),
        ("Eight.", 8),
        ("I'd say seven out of ten", 7),
        ('{"score": 8}', 8),
        ('```json\n{"reason": "3 things improved", "score": 8}\n```', 8),
        ("<think>maybe 3, no, 4</think>8", 8),
        ("Score: 3. No, on reflection: Score: 5", 5),
        ("\uff18", 8),
        ("11", None),
        ("-1", None),
        ("0", None),
        ("0/10", None),
        ("Score: 11", None),
        ("Score: -1", None),
        ("100", None),
        ("7.5", None),
        ("7,5", None),
        ("80%", None),
        ("80/100", None),
        ("4/5", None),
        ("7-8", None),
        ("7 or 8", None),
        ("between 7 and 8", None),
        ("on a scale of 1 to 10", None),
        ("", None),
        ("none", None),
        ("I feel better.", None),
        ("I sleep 6 hours and eat 3 meals.", None),
        ('{"score": null}', None),
        ('{"score": 12}', None),
        ('{"score": 8.5}', None),
        ('{"score": true}', None),
        ("print(1)", None),
        ("9" * 400, None),
        ("I'm sorry, but I can't assist with that.", None),
    ],
)
def test_scores(reply: str, score: int | None) -> None:
    assert read_score(reply) == score


@given(st.text(max_size=200))
def test_a_score_is_on_the_scale_or_none(reply: str) -> None:
    assert read_score(reply) in (None, *range(1, 11))


@given(
    st.integers(-30, 30),
    st.sampled_from(
        ["{}", "Score: {}", "On a scale of 1 to 10, {}", "{}/10", "**{}**", "I give it {}.", '{{"score": {}}}']
    ),
)
def test_a_whole_number_counts_exactly_where_it_is_on_the_scale(number: int, form: str) -> None:
    assert read_score(form.format(number)) == (number if 1 <= number <= 10 else None)


@pytest.mark.parametrize(
    ("reply", "name", "reason"),
    [
        ("Treatment: CBT\nExplanation: It helps.", "CBT", "It helps."),
        ("**Treatment:** CBT\n**Explanation:** It helps.", "CBT", "It helps."),
        ("**Treatment**: CBT\n\n**Explanation**: It helps.", "CBT", "It helps."),
        ("Treatment:\nCBT\nExplanation:\nIt helps.", "CBT", "It helps."),
        ("### Treatment: CBT\n### Explanation: It helps.\nA lot.", "CBT", "It helps.\nA lot."),
        ("1. Treatment: CBT\n2. Reason: It helps.", "CBT", "It helps."),
        ("Proposed treatment: CBT; Explanation: It helps.", "CBT", "It helps."),
        ('{"treatment": "CBT", "explanation": "It helps."}', "CBT", "It helps."),
        ('Sure!\n```json\n{"plan": "CBT", "reason": "It helps."}\n```', "CBT", "It helps."),
        ("CBT\nIt helps.", "CBT", "It helps."),
        ("CBT. Reason: It helps.", "CBT", "It helps."),
        ("Here is what I propose:\n\nCBT\nIt helps.", "CBT", "It helps."),
        ("I recommend Exposure Therapy. It helps.", "Exposure Therapy", "It helps."),
        ("Treatment: CBT", "CBT", ""),
        ("Explanation: It helps.\nTreatment: CBT", "CBT", "It helps."),
        ("treatment: cbt (weekly)\nwhy: it helps", "cbt (weekly)", "it helps"),
    ],
)
def test_plans(reply: str, name: str, reason: str) -> None:
    assert read_plan(reply, "treatment") == Proposal(name, reason)


@pytest.mark.parametrize(
    "text", ["none needed", "None", "None needed.", "No medication is needed", "N/A", "no medicine"]
)
def test_no_medicine_is_a_medicine_and_no_treatment(text: str) -> None:
    assert read_plan(f"Medicine: {text}\nExplanation: Mild.", "medicine") == Proposal(NONE_NEEDED, "Mild.")
    assert read_plan(f"Treatment: {text}\nExplanation: Mild.", "treatment") is None


UNREADABLE = (
    "",
    " ",
    "I'm sorry, but I can't assist with that.",
    "As an AI language model I have no opinion.",
    '{"treatment": ""}',
    '{"treatment": null}',
    "{broken json",
    "Treatment:",
    "Explanation: it helps",
    "Patient: I feel bad.",
    "123",
    "***",
)


@pytest.mark.parametrize("reply", UNREADABLE)
@pytest.mark.parametrize("kind", ["treatment", "medicine"])
def test_replies_that_propose_nothing(reply: str, kind: str) -> None:
    assert read_plan(reply, kind) is None


@given(st.text(max_size=300), st.sampled_from(["treatment", "medicine"]))
def test_any_reply_gives_a_plan_with_a_name_or_none(reply: str, kind: str) -> None:
    found = read_plan(reply, kind)
    assert found is None or found.name.strip()


NAMES = (
    st.text(alphabet="ABCDEFGHIJabcdefghij ", min_size=3, max_size=40).map(str.strip).filter(lambda text: len(text) > 2)
)
FORMS = ("Treatment: {}\nExplanation: {}", "**Treatment:** {}\n**Explanation:** {}", "Treatment:\n{}\nExplanation:\n{}")


@given(NAMES, NAMES, st.sampled_from([*FORMS, "json"]))
def test_a_plan_in_any_form_comes_back(name: str, reason: str, form: str) -> None:
    text = json.dumps({"treatment": name, "explanation": reason}) if form == "json" else form.format(name, reason)
    found = read_plan(text, "treatment")
    assert found is not None
    assert (found.name, found.reason) == (name, reason)


@pytest.mark.parametrize(
    ("reply", "name"),
    [
        ("Diagnosis: Major Depressive Disorder\nReason: low mood", "Major Depressive Disorder"),
        ("**Diagnosis:** Major Depressive Disorder (MDD)\n**Reason:** low", "Major Depressive Disorder (MDD)"),
        ('{"diagnosis": "PTSD", "reason": "nightmares"}', "PTSD"),
        ("Panic disorder", "Panic disorder"),
        ("The most likely diagnosis is panic disorder, because of the attacks.", "panic disorder"),
        ("The patient most likely has an adjustment disorder. It began after the move.", "adjustment disorder"),
        ("Diagnosis: Panic disorder because it comes in attacks", "Panic disorder"),
    ],
)
def test_diagnoses(reply: str, name: str) -> None:
    found = read_diagnosis(reply)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize(
    "reply",
    [
        *UNREADABLE,
        "Doctor 2's diagnosis",
        "Both diagnoses seem accurate.",
        "Diagnosis: Doctor 1",
        "Diagnosis: None",
        "Diagnosis: the name of the illness",
        "I would need to talk to the patient for a longer time before I could say anything at all about it, I think.",
    ],
)
def test_what_names_no_illness(reply: str) -> None:
    assert read_diagnosis(reply) is None


CANDIDATES = ("Panic Disorder", "Social Anxiety Disorder")


@pytest.mark.parametrize(
    ("reply", "chosen"),
    [
        ("1", 0),
        ("2.", 1),
        ("Choice: 2", 1),
        ("**Choice:** 1", 0),
        ("The first one is not me at all.\nChoice: 2", 1),
        ("Diagnosis 1 is close, but diagnosis 2 is me.\nChoice: 2", 1),
        ("The second one fits.", 1),
        ("Number two", 1),
        ("Doctor 2's diagnosis", 1),
        ("It is the panic disorder, it comes in attacks.", 0),
        ('{"choice": 2}', 1),
        ('{"choice": "1"}', 0),
        ("Choice: 3", None),
        ("Both.", None),
        ("", None),
        ("Diagnosis 1 and diagnosis 2 both fit.", None),
        ("Panic Disorder or Social Anxiety Disorder, I cannot say.", None),
        ("I feel anxious.", None),
    ],
)
def test_choices(reply: str, chosen: int | None) -> None:
    assert read_choice(reply, CANDIDATES) == chosen


@given(st.text(max_size=200))
def test_a_choice_is_one_of_the_two_or_none(reply: str) -> None:
    assert read_choice(reply, CANDIDATES) in (None, 0, 1)
