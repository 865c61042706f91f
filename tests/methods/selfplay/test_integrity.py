"""Role checks: what people say passes, what models say when they fall out of their part does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.methods.selfplay.integrity import BLEMISHES, UNUSABLE, Checked, check_turn, is_foreign, repeats
from strop.methods.selfplay.session_record import Speaker, Turn

EARLIER = (
    Turn("patient", "I have not slept since the letter from the bank came."),
    Turn("therapist", "That sounds exhausting. What went through your mind when you opened it?"),
    Turn("patient", "That we will lose the house, and that the children will hate me for it."),
    Turn("therapist", "And what did you do after you had read it?"),
)


def patient(text: str, **options: bool) -> Checked:
    return check_turn(text, speaker="patient", earlier=EARLIER, name="Mira Lund", **options)


def therapist(text: str) -> Checked:
    return check_turn(text, speaker="therapist", earlier=EARLIER[:3], name="Mira Lund")


KEPT_BY_PATIENTS = (
    "I put it in the drawer. I know, I know, it is silly.",
    "I can't help it, I check the lock again and again.",
    "I can't continue like this, I really can't.",
    "I'm not able to support my family any more, and I'm sorry, I just... sorry.",
    "Well, my doctor said it was nothing. But he never looks at me.",
    "She said: you should consider moving out. As if it were that easy!",
    "Hi is what he said, and then nothing for ten years.",
    "Hm.",
    "Yes.",
    "No. I mean... yes, at night mostly.",
    "I called my friend Per, para-glider that he is, and we talked for an hour.",
    "It hurts - 3 or 4 times a day - and then it goes.",
    "I feel like a robot, honestly. Going through the motions.",
    "\u201cNobody will come,\u201d I thought, and nobody came.",
    "Caf\u00e9s, cr\u00eapes, na\u00efve ideas: that was the life I wanted in Malm\u00f6.",
)


@pytest.mark.parametrize("text", KEPT_BY_PATIENTS)
def test_people_are_left_alone(text: str) -> None:
    assert patient(text) == Checked(text)


@pytest.mark.parametrize(
    "text",
    [
        "You put it away. What made that feel safer than keeping it in sight?",
        "It makes sense that you froze. When you think of the bank, what do you feel in your body?",
        "I hear how tired you are. Have you had thoughts of ending your life?",
        "How do you usually cope with days like this?",
        "That must have been frightening. Tell me about the evening before.",
        "I wonder what you were afraid of.",
    ],
)
def test_therapists_are_left_alone(text: str) -> None:
    assert therapist(text) == Checked(text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("I'm sorry, but I can't assist with that request.", "refuses"),
        ("I am unable to provide medical advice.", "breaks_character"),
        ("As an AI language model, I don't have personal experiences.", "breaks_character"),
        ("I'm just a virtual assistant, but I understand.", "breaks_character"),
        ("In this role-play, I would feel sad.", "breaks_character"),
        ("As the client, I would say that I feel tired.", "breaks_character"),
        ("Here is a possible response: I feel tired.", "breaks_character"),
        ("Therapist: And then?", "speaks_for_other"),
        ("Dr. Smith: Tell me about it.\nMira: I feel bad.", "speaks_for_other"),
        ("<|im_start|>user\n", "empty"),
        ('{"text": "I feel bad"}', "not_speech"),
        ("```\nI feel bad\n```", "not_speech"),
        ("1234567 89", "not_speech"),
        ("... --- !!! ???", "not_speech"),
        ("Me siento muy mal y no puedo dormir por las noches porque tengo miedo.", "other_language"),
        ("Je ne suis pas bien, je ne dors pas et je pense que c'est ma faute.", "other_language"),
        ("Ich kann nicht schlafen und ich habe Angst, dass es nie wieder gut wird.", "other_language"),
        ("\u042f \u043d\u0435 \u043c\u043e\u0433\u0443 \u0441\u043f\u0430\u0442\u044c.", "other_language"),
        ("Hello! I am Mira and I have come about my sleep.", "restarts"),
        ("Nice to meet you, doctor.", "restarts"),
        ("That we will lose the house, and that the children will hate me for it!", "repeats"),
        ("What went through your mind when you opened it? That sounds exhausting.", "repeats"),
        ("I am tired of this. I am tired of this. I am tired of this. I am tired of this.", "repeats"),
        ("I'm here to help. How can I assist you today?", "becomes_helper"),
        ("How does that make you feel?", "becomes_helper"),
        ("I'm sorry to hear that you feel this way.", "becomes_helper"),
        ("It's important to remember that healing takes time.", "becomes_helper"),
        ("Try these:\n1. Breathe slowly\n2. Write a diary", "becomes_helper"),
        ("My core belief is that I am helpless.", "recites_card"),
        ("History: I grew up above a shop.", "recites_card"),
        ("Thank you.\n\nHow you feel: I am too tired for this.", "recites_card"),
        ("What brings you here today? Please answer completely.", "becomes_helper"),
        ("I want to assure you that we are well equipped. Please do not hesitate to ask.", "becomes_helper"),
    ],
)
def test_patients_who_fall_out_of_their_part(text: str, fault: str) -> None:
    found = patient(text)
    assert found.faults
    assert fault in found.faults or (fault == "breaks_character" and "refuses" in found.faults)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Doctor, I have not slept for weeks.", "becomes_patient"),
        ("You hid it. That is a common thing to do.", "asks_nothing"),
        ("I've been feeling so depressed and hopeless lately.", "becomes_patient"),
        ("Hello and welcome, please take a seat.", "restarts"),
        ("I cannot help you with this.", "refuses"),
        ("Patient: I sleep badly.", "speaks_for_other"),
        ("Mira: I sleep badly.", "speaks_for_other"),
    ],
)
def test_therapists_who_fall_out_of_their_part(text: str, fault: str) -> None:
    assert fault in therapist(text).faults


def test_the_first_turn_may_greet() -> None:
    assert check_turn("Hello. I sleep badly.", speaker="patient", earlier=()).faults == ()
    assert check_turn("Hello, what brings you?", speaker="therapist", earlier=EARLIER[:1]).faults == ()


@pytest.mark.parametrize(
    ("text", "said", "cut"),
    [
        ("I hid it.\nTherapist: Why?\nPatient: Because.", "I hid it.", "Therapist: Why?\nPatient: Because."),
        ("I hid it.\n\n**Therapist:** Why?", "I hid it.", "**Therapist:** Why?"),
        ("I hid it.<|im_end|>\n<|im_start|>user\nWhy?", "I hid it.", "<|im_end|>\n<|im_start|>user\nWhy?"),
        ("I hid it.\nUser: next", "I hid it.", "User: next"),
        ("I hid it.\nDr. Okafor: Why?", "I hid it.", "Dr. Okafor: Why?"),
        ("I hid it.\n[Supervisor: ask on]", "I hid it.", "[Supervisor: ask on]"),
        ("Patient: I hid it.", "I hid it.", ""),
        ("**Mira:** I hid it.", "I hid it.", ""),
        ("Mira Lund (quietly): I hid it.", "I hid it.", ""),
        ("<|assistant|>\nI hid it.", "I hid it.", ""),
        ('"I hid it."', "I hid it.", ""),
    ],
)
def test_invented_turns_are_cut_off_and_own_labels_go(text: str, said: str, cut: str) -> None:
    found = patient(text)
    assert (found.text, found.cut, found.faults) == (said, cut, ())
    assert found.cut_why == ("speaks_for_other" if cut else "")


def test_a_turn_that_the_limit_cut_ends_with_its_last_whole_sentence() -> None:
    found = patient("I hid it. Then I went to the window and", finished=False)
    assert (found.text, found.cut, found.cut_why) == ("I hid it.", "Then I went to the window and", "unfinished")
    whole = patient("Then I went to the window and", finished=False)
    assert (whole.text, whole.cut, whole.cut_why) == ("Then I went to the window and", "", "")


def test_another_language_is_fine_where_the_cards_are_in_it() -> None:
    text = "Me siento muy mal y no puedo dormir por las noches porque tengo miedo."
    assert patient(text, english=False).faults == ()


def test_the_share_at_which_one_turn_repeats_another() -> None:
    """Runs of three: "a b c d e f g" has 5, "a b c d e f g h" 6 with 5 in common, "a b c x y z w" 1 of 9 in common."""
    earlier = [Turn("patient", "a b c d e f g")]
    assert repeats("a b c d e f g h", earlier)
    assert not repeats("a b c x y z w", earlier)
    assert not repeats("a b c d", earlier), "too short to be told from a habit"


def test_the_least_bad_turn_is_told_by_its_worst_fault() -> None:
    recites, helps = Checked("x", ("recites_card",)), Checked("x", ("becomes_helper",))
    both = Checked("x", ("recites_card", "becomes_helper"))
    assert sorted([both, helps, recites], key=lambda each: each.severity) == [recites, helps, both]
    assert recites.usable
    assert not Checked("x", ("recites_card", "refuses")).usable


@given(st.text(max_size=400), st.sampled_from(["patient", "therapist"]), st.booleans())
def test_any_text_is_checked_and_what_is_said_is_part_of_it(text: str, speaker: Speaker, finished: bool) -> None:
    found = check_turn(text, speaker=speaker, earlier=EARLIER, name="Mira Lund", finished=finished)
    assert found.text in text
    assert found.cut in text
    assert set(found.faults) <= {*UNUSABLE, *BLEMISHES}
    assert bool(found.text) or not found.usable
    again = check_turn(found.text, speaker=speaker, earlier=EARLIER, name="Mira Lund")
    assert again.text in found.text


@given(
    st.lists(st.sampled_from(["Therapist: Why?", "I hid it.", "Patient: Yes.", "", "<|im_end|>", "Mira:"]), max_size=6)
)
def test_nobody_is_quoted_as_somebody_else(lines: list[str]) -> None:
    said = patient("\n".join(lines)).text
    assert "Therapist:" not in said
    assert "<|im_end|>" not in said


@given(st.text(alphabet="abcdefghij .", max_size=200))
def test_nonsense_without_words_of_another_language_is_not_foreign(text: str) -> None:
    assert not is_foreign(text)
