"""The two views of a dialogue, and how a turn that breaks its role is asked for again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from players import ASKING, SAYING, Stage
from strop.methods.selfplay.consultation import SessionFailed
from strop.methods.selfplay.dialogue import estimate_tokens, view
from strop.methods.selfplay.prompts import CUE, disclosure_note, turn_note
from strop.methods.selfplay.session_record import Discarded, Speaker, Turn


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def talk(turns: int) -> list[Turn]:
    """A dialogue of so many turns, the patient's opening first."""
    speakers: tuple[Speaker, Speaker] = ("patient", "therapist")
    return [Turn(speakers[number % 2], f"t{number}") for number in range(turns)]


def seen(turns: int, side: Speaker, budget: int = 10_000, note: str = "[note]") -> list[tuple[str, str]]:
    found = view("rules", talk(turns), side=side, note=note, budget=budget, estimate=lambda text: len(text.split()))
    return [(message.role, message.content) for message in found.messages]


def test_each_side_speaks_as_the_assistant_and_hears_the_other_as_the_user() -> None:
    assert seen(0, "patient") == [("system", "rules"), ("user", f"{CUE}\n\n[note]")]
    assert seen(1, "therapist") == [("system", "rules"), ("user", "t0\n\n[note]")]
    assert seen(2, "patient") == [("system", "rules"), ("user", CUE), ("assistant", "t0"), ("user", "t1\n\n[note]")]
    assert seen(3, "therapist", note="") == [
        ("system", "rules"),
        ("user", "t0"),
        ("assistant", "t1"),
        ("user", "t2"),
    ]


def test_the_oldest_exchanges_go_first_and_the_opening_stays() -> None:
    """Words plus 5 a message: the therapist's whole request after 3 exchanges is 1+5, 3 x (1+5) x 2 and 2+5: 43.

    At 42 one exchange of 12 is left out; at 18 only the opening and the last exchange would be 6 + 6 + 6 + 7 = 25.
    """
    assert len(seen(7, "therapist", budget=49)) == 8
    assert [text for _, text in seen(7, "therapist", budget=48)] == ["rules", "t0", "t3", "t4", "t5", "t6\n\n[note]"]
    assert [text for _, text in seen(7, "therapist", budget=25)] == ["rules", "t0", "t5", "t6\n\n[note]"]
    with pytest.raises(SessionFailed, match="about 25 tokens and 24 are left"):
        seen(7, "therapist", budget=24)


@given(st.integers(1, 40), st.sampled_from(["patient", "therapist"]), st.integers(20, 500))
def test_every_view_keeps_its_budget_and_the_order_of_roles(turns: int, side: Speaker, budget: int) -> None:
    """The therapist speaks after an odd number of turns, the patient after an even one."""
    turns += (turns % 2) != (side == "therapist")
    try:
        found = seen(turns, side, budget=budget)
    except SessionFailed:
        assert budget < 60
        return
    assert sum(len(text.split()) + 5 for _, text in found) <= budget
    roles = [role for role, _ in found]
    assert roles == ["system", *(["user", "assistant"] * len(roles))[: len(roles) - 1]]
    assert roles[-1] == "user"
    assert any(text == "t0" or text.startswith("t0\n") for _, text in found), "the opening stays"
    assert found[-1][1].startswith(f"t{turns - 1}"), "and so does what is answered"


def test_tokens_are_rather_over_than_underestimated() -> None:
    """Bytes by three: 30 letters are 10; a Chinese character has three bytes and is about a token."""
    assert estimate_tokens("a" * 30) == 10
    assert estimate_tokens("\u6211" * 10) == 10
    assert estimate_tokens("") == 0
    assert estimate_tokens("\ud800") == 1


def test_the_plan_and_the_schedule_go_forward_and_are_stretched() -> None:
    planned = [turn_note(number, 4) for number in range(1, 7)]
    assert len(set(planned[:4])) == 4
    assert planned[4] == planned[5]
    shared = [disclosure_note(number, 4) for number in range(7)]
    assert len(set(shared[:5])) == 5
    assert shared[4] == shared[5] == shared[6]
    assert [turn_note(number, 8) for number in range(1, 9)] == [planned[number // 2] for number in range(8)]
    assert disclosure_note(1, 1) == shared[4], "with one exchange everything may be said in it"
    assert "Supervisor" in turn_note(2, 4, "Why?")
    assert "Why?" in turn_note(2, 4, "Why?")


def test_notes_are_not_part_of_the_dialogue(stage: Stage) -> None:
    record = stage.play()
    assert not any("[" in turn.text for turn in record.dialogue)
    for asked in stage.of("therapist", "turn"):
        assert asked.text.count("[Supervisor") == 1, "an earlier note is not repeated"
        assert "[For this answer" not in asked.text
    for asked in stage.of("patient", "turn"):
        assert asked.text.count("[For this answer") == 1
        assert "Supervisor" not in asked.text


def test_a_turn_that_breaks_its_role_is_asked_for_again_with_another_sample(stage: Stage) -> None:
    helper = "I'm here to help. How can I assist you today?"
    record = stage.play({("patient", "turn"): [helper, "", SAYING[0], *SAYING[1:]]})
    assert record.dialogue[0] == Turn("patient", SAYING[0], "stop", 3)
    assert record.ledger == (Discarded(0, "patient", "becomes_helper", helper), Discarded(0, "patient", "empty", ""))
    samples = [asked.call.sample for asked in stage.of("patient", "turn")]
    assert samples == [0, 1, 2, 0, 0, 0, 0]
    assert not any("assist you" in asked.text for asked in stage.asked), "what was discarded is heard by nobody"


def test_without_a_better_one_the_least_bad_turn_is_said(stage: Stage) -> None:
    bad = ["I'm here to help you.", "As an AI I cannot feel.", "My core belief is bad.", "You should try to rest."]
    record = stage.play({("patient", "turn"): [*bad, *SAYING[1:]]})
    assert record.dialogue[0] == Turn("patient", bad[2], "stop", 4)
    assert [entry.why for entry in record.ledger] == [
        "becomes_helper",
        "breaks_character",
        "kept:recites_card",
        "becomes_helper",
    ]
    assert record.status == "complete"


def test_the_cue_said_back_is_a_repetition(stage: Stage) -> None:
    record = stage.play({("patient", "turn"): [CUE, *SAYING]})
    assert [entry.why for entry in record.ledger] == ["restarts"] or record.ledger[0].why == "repeats"
    assert record.dialogue[0].text == SAYING[0]


def test_with_nothing_to_say_the_session_fails(stage: Stage) -> None:
    record = stage.play({("therapist", "turn"): [ASKING[0], ""]}, turn_tries=2)
    assert (record.status, record.exchanges, record.stopped) == ("failed", 1, "failed")
    assert record.failure is not None
    assert (record.failure.kind, record.failure.message) == (
        "role_not_kept",
        "no answer of the therapist in turn 3 can be said",
    )
    assert [(entry.turn, entry.why) for entry in record.ledger] == [(3, "empty"), (3, "empty")]


def test_what_an_invented_turn_says_is_cut_off_and_kept_in_the_ledger(stage: Stage) -> None:
    record = stage.play({("therapist", "turn"): [f"{ASKING[0]}\nPatient: zqinvented", *ASKING[1:]]})
    assert record.dialogue[1].text == ASKING[0]
    assert record.ledger == (Discarded(1, "therapist", "cut:speaks_for_other", "Patient: zqinvented"),)
    assert not any("zqinvented" in asked.text for asked in stage.asked)
