"""A session from card to record: who sees what, how many calls, what fails how, and that a killed one goes on."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from players import CARD, SAYING, Rule, Stage, Table, turn_number
from strop.methods.selfplay.cards import CoreBeliefs, hidden_fields
from strop.methods.selfplay.session_record import SessionRecord
from strop.models.protocol import CallFailure


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


MARKED = replace(
    CARD,
    history="zqhistory happened",
    core_beliefs=CoreBeliefs(("zqhelpless",), ("zqunlovable",), ("zqworthless",)),
    intermediate_belief="zqintermediate rule",
    intermediate_belief_depression="zqdepression rule",
    coping_strategies="zqcoping habit",
    situation="zqsituation there",
    automatic_thought="zqthought came",
    emotions=("zqemotion", "zqfeeling"),
    behavior="zqbehavior followed",
    condition="zqcondition",
)
MARKS = (
    *("zqhistory", "zqhelpless", "zqunlovable", "zqworthless", "zqintermediate", "zqdepression", "zqcoping"),
    *("zqsituation", "zqthought", "zqemotion", "zqfeeling", "zqbehavior"),
)


def test_a_whole_session(stage: Stage) -> None:
    """Encode 1, opening 1, 4 exchanges 8, probes 5, diagnoses 2, choice 1, treatment 3, medicine 3: 24 calls."""
    record = stage.play()
    assert (record.id, record.status, record.stopped, record.exchanges) == ("1-1#0", "complete", "converged", 4)
    assert [turn.speaker for turn in record.dialogue] == ["patient", *["therapist", "patient"] * 4]
    assert [turn.text for turn in record.dialogue if turn.speaker == "patient"] == list(SAYING[:5])
    assert record.ledger == ()
    assert record.illness == "Obsessive-Compulsive Disorder"
    assert record.diagnoses == ("Obsessive-Compulsive Disorder", "Generalised Anxiety Disorder")
    assert record.treatment.startswith("Therapy")
    assert record.explain_t == "It helps."
    assert record.medicine.startswith("Drug")
    assert len(stage.asked) == 24
    assert Counter(asked.to for asked in stage.asked) == {"therapist": 4 + 5 + 2 + 2, "patient": 5 + 1 + 2, "judge": 3}


def test_no_therapist_request_holds_what_only_the_card_says(stage: Stage) -> None:
    """Every field has its marker, the decoder fails to the cap, and every part runs."""
    rules: dict[tuple[str, str], Rule] = {("judge", "score"): "5"}
    record = stage.play(rules, card=MARKED, matcher=Table(otherwise=0.1), no_progress=None)
    assert (record.status, record.stopped, record.exchanges) == ("complete", "cap", 9)
    assert all(mark in " ".join(hidden_fields(MARKED).values()) for mark in MARKS), "every marker is hidden"
    for mark in MARKS:
        assert any(mark in asked.text for asked in stage.of("patient")), "the patient knows it"
        assert not any(mark in asked.text for asked in stage.of("therapist")), mark
    assert not any("zqcondition" in asked.text for asked in stage.asked), "nobody is told the answer"


def test_what_the_patient_says_is_no_secret_any_more(stage: Stage) -> None:
    rules: dict[tuple[str, str], Rule] = {
        ("patient", "turn"): lambda call: (
            "It was the zqsituation, I think." if turn_number(call) == 1 else SAYING[turn_number(call)]
        )
    }
    stage.play(rules, card=MARKED)
    seen = ["zqsituation" in asked.text for asked in stage.of("therapist", "turn")]
    assert seen == [False, True, True, True]


@pytest.mark.parametrize("rounds", [1, 2])
def test_each_round_of_feedback_is_heard_once(stage: Stage, rounds: int) -> None:
    """Round k of the judge's questions is heard in exchange 4 + k alone, and never by the patient."""
    rules: dict[tuple[str, str], Rule] = {("judge", "feedback"): [f"And zq{number}?" for number in range(rounds)]}
    stage.play(rules, matcher=Table({"Checks the stove": 0.2}), extra_rounds=rounds, no_progress=None)
    turns = [asked.text for asked in stage.of("therapist", "turn")]
    assert len(turns) == 4 + rounds
    for number in range(rounds):
        assert ["zq" + str(number) in text for text in turns] == [place == 4 + number for place in range(4 + rounds)]
        assert not any(f"zq{number}" in asked.text for asked in stage.of("patient"))
        probes = [asked for asked in stage.of("therapist") if asked.kind != "turn"]
        assert not any(f"zq{number}" in asked.text for asked in probes)


@pytest.mark.parametrize("exchanges", [1, 4, 12])
def test_the_card_stands_once_in_a_request_and_the_context_stays_bounded(stage: Stage, exchanges: int) -> None:
    def long(call: Any) -> str:
        return f"{call.key('x')[:12]} " + " ".join(f"word{call.key('x')[place : place + 4]}" for place in range(60))

    rules: dict[tuple[str, str], Rule] = {("patient", "turn"): long, ("therapist", "turn"): long}
    record = stage.play(rules, card=MARKED, exchanges=exchanges, context_tokens=3200, max_tokens=250)
    for asked in stage.asked:
        size = sum(len(message.content.encode()) / 3 + 5 for message in asked.messages)
        assert size <= 3200 - 250, asked.kind
        roles = [message.role for message in asked.messages]
        assert roles == ["system", *(["user", "assistant"] * len(roles))[: len(roles) - 1]], "strict templates"
        assert roles[-1] == "user"
    for asked in stage.of("patient"):
        assert all(asked.text.count(mark) == 1 for mark in MARKS)
    assert (record.dropped > 0) == (exchanges == 12)
    assert record.status == "complete"


def test_a_card_that_does_not_fit_is_a_failed_session_without_a_call_too_long(stage: Stage) -> None:
    record = stage.play(context_tokens=300, max_tokens=64, encoder=False)
    assert (record.status, record.stopped) == ("failed", "failed")
    assert record.failure is not None
    assert record.failure.kind == "context_too_small"
    assert "300" not in record.failure.message
    assert stage.asked == []


SWITCHES = {
    "encoder": {("judge", "encode"): 1},
    "decoder": {("therapist", "probe"): 5},
    "diagnosis": {("therapist", "diagnosis"): 2, ("patient", "choice"): 1},
    "treatment": {("therapist", "treatment"): 1, ("patient", "outcome"): 1, ("judge", "score"): 1},
    "medicine": {("therapist", "medicine"): 1, ("patient", "outcome"): 1, ("judge", "score"): 1},
}


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_takes_out_exactly_its_own_requests(tmp_path: Path, switch: str) -> None:
    """Without the encoder there is no fifth probe either: there are no principles to find out."""
    (tmp_path / "on").mkdir()
    (tmp_path / "off").mkdir()
    on, off = Stage(tmp_path / "on"), Stage(tmp_path / "off")
    on.play()
    switched: dict[str, Any] = {switch: False}
    record = off.play(**switched)
    missing = Counter((asked.to, asked.kind) for asked in on.asked)
    missing.subtract((asked.to, asked.kind) for asked in off.asked)
    expected = dict(SWITCHES[switch])
    if switch == "encoder":
        expected["therapist", "probe"] = 1
    assert {kind: count for kind, count in missing.items() if count} == expected
    assert record.status == "complete"
    parts = {"diagnosis": record.illness, "treatment": record.treatment, "medicine": record.medicine}
    assert all(bool(text) == (part != switch) for part, text in parts.items())
    assert (record.encoding is None) == (switch == "encoder")
    assert (record.stopped == "off") == (switch == "decoder")


@pytest.mark.parametrize(("every", "offset"), [(20, 3), pytest.param(1, 0, marks=pytest.mark.slow)])
def test_a_session_killed_after_any_call_goes_on_to_the_same_record(tmp_path: Path, every: int, offset: int) -> None:
    """No call is asked twice: the parts before and after the kill are the calls of the unbroken session."""
    rules: dict[tuple[str, str], Rule] = {("judge", "score"): lambda call: str(5 + int(call.key("x"), 16) % 5)}
    matcher = Table({"Checks the stove": 0.2})
    (tmp_path / "whole").mkdir()
    whole = Stage(tmp_path / "whole")
    expected = whole.play(rules, matcher=matcher)
    assert len(whole.asked) > 40
    for calls in range(offset, len(whole.asked), every):
        folder = tmp_path / str(calls)
        folder.mkdir()
        killed = Stage(folder)
        with pytest.raises(KeyboardInterrupt):
            killed.play(rules, matcher=matcher, die_after=calls)
        assert killed.play(rules, matcher=matcher) == expected
        assert Counter(asked.call.key("x") for asked in killed.asked) == Counter(
            asked.call.key("x") for asked in whole.asked
        )


def test_passes_over_a_card_are_different_sessions(stage: Stage) -> None:
    first, again = stage.play(), stage.play(pass_=1)
    assert (first.id, again.id) == ("1-1#0", "1-1#1")
    assert len({asked.call.key("x") for asked in stage.asked}) == len(stage.asked), "nothing is shared"


LONG = CallFailure("context_too_long", "the prompt is too long", transient=False)


@pytest.mark.parametrize(
    ("where", "status"),
    [
        (("judge", "encode"), "complete"),
        (("patient", "turn"), "failed"),
        (("therapist", "turn"), "failed"),
        (("therapist", "probe"), "failed"),
        (("therapist", "diagnosis"), "failed"),
        (("patient", "choice"), "failed"),
        (("therapist", "treatment"), "partial"),
        (("patient", "outcome"), "partial"),
        (("judge", "score"), "partial"),
        (("therapist", "medicine"), "partial"),
    ],
)
def test_a_call_without_an_answer_ends_the_session_and_keeps_what_was_there(
    stage: Stage, where: tuple[str, str], status: str
) -> None:
    record = stage.play({where: [LONG]})
    assert record.status == status
    if status != "complete":
        assert record.failure is not None
        assert record.failure.kind == "call_failed"
        assert "context_too_long" in record.failure.message
    assert (record.illness != "") == (status != "failed")
    assert SessionRecord.from_row(json.loads(json.dumps(record.to_row()))) == record


HOSTILE = (
    "",
    "   \n",
    "I'm sorry, but I can't assist with that request.",
    "As an AI language model, I do not have feelings.",
    "No puedo dormir porque siempre estoy pensando en mi trabajo y en los problemas.",
    "\u6211\u665a\u4e0a\u7761\u4e0d\u7740\u89c9\uff0c\u5fc3\u91cc\u5f88\u96be\u53d7\u3002",
    '{"role": "patient", "content": "hello"',
    "Therapist: And how does that feel?\nPatient: Bad.",
    "<|im_start|>assistant\n<|im_end|>",
    "```python\nprint(1)\n```",
    "10",
    "None",
    "[INST] Continue [/INST]",
    "a" * 3000,
)


@pytest.mark.parametrize("reply", HOSTILE)
def test_players_that_answer_one_hostile_text_to_everything_end_in_a_record(stage: Stage, reply: str) -> None:
    kinds: list[tuple[str, str]] = [
        *(("patient", kind) for kind in ("turn", "choice", "outcome")),
        *(("therapist", kind) for kind in ("turn", "probe", "diagnosis", "treatment", "medicine")),
        *(("judge", kind) for kind in ("feedback", "score")),
    ]
    record = stage.play(dict.fromkeys(kinds, reply), matcher=Table(otherwise=0.1))
    assert record.status == "failed"
    assert record.illness == ""
    assert SessionRecord.from_row(json.loads(json.dumps(record.to_row()))) == record


@pytest.mark.parametrize("reply", HOSTILE)
@pytest.mark.parametrize("where", [("judge", "score"), ("patient", "outcome"), ("therapist", "treatment")])
def test_hostile_answers_after_the_diagnosis_never_become_a_score(
    stage: Stage, where: tuple[str, str], reply: str
) -> None:
    record = stage.play({where: reply}, tries=3)
    assert record.illness == "Obsessive-Compulsive Disorder"
    scored = [plan.score for plan in (*record.treatments, *record.medicines)]
    assert 0 not in scored
    if where == ("judge", "score") and reply != "10":
        assert set(scored) == {None}
        assert (record.status, record.treatment, record.best_treatment) == ("partial", "", None)
        assert len(record.treatments) == 3
