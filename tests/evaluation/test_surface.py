"""What the surface of an answer tells, on made-up answers and on real ones."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.evaluation.surface import distinct_share, invents_turn, refuses, repeated_runs, word_pairs, words_of


def test_words() -> None:
    assert words_of("I'm here \u2014 it\u2019s **okay**, 2 days.") == ["i'm", "here", "it\u2019s", "okay", "2", "days"]


def test_repeated_runs_by_hand() -> None:
    """`a b c d a b c d`: runs abcd, bcda, cdab, dabc, abcd; one of five has come before."""
    assert repeated_runs(["a", "b", "c", "d", "a", "b", "c", "d"]) == pytest.approx(1 / 5)
    assert repeated_runs(["so"] * 10) == pytest.approx(6 / 7)
    assert repeated_runs(["a", "b", "c"]) == 0.0


def test_pairs_of_the_first_words() -> None:
    assert word_pairs(["a", "b", "c", "d"], first=3) == (("a", "b"), ("b", "c"))
    assert word_pairs(["alone"]) == ()


def test_distinct_share_by_hand() -> None:
    """Pairs ab, bc, ab: two of three are different."""
    assert distinct_share([("a", "b"), ("b", "c"), ("a", "b")]) == pytest.approx(2 / 3)
    assert distinct_share([]) == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "That sounds hard.\nUser: thank you",
        "That sounds hard.\n\n**Client:** I know",
        "That sounds hard. <|im_start|>user",
        "That sounds hard.</s>",
        "Tell me more.\nTherapist: and then?",
        "Tell me more.\n### Instruction\nBe kind",
        "Tell me more. [INST] go on [/INST]",
        "Client: I am sad.\nTherapist: I hear you.\nClient: yes",
    ],
)
def test_invented_turns(text: str) -> None:
    assert invents_turn(text)


@pytest.mark.parametrize(
    "text",
    [
        "Therapist: I hear how tired you are.",
        "You said: I cannot go on like this.",
        "Three things may help:\n1. Sleep: go to bed at ten.\n2. Friends: call one of them.",
        "As a user of these drugs you know the risk.",
        "",
    ],
)
def test_one_voice(text: str) -> None:
    assert not invents_turn(text)


@pytest.mark.parametrize(
    "text",
    [
        "I'm really sorry that you're feeling this way, but I'm unable to provide the help that you need.",
        "I\u2019m sorry, but I can\u2019t assist with that.",
        "I cannot help you with this.",
        "I am not able to answer questions about health.",
        "I'm not equipped to provide advice.",
        "As an AI, I cannot provide counselling.",
    ],
)
def test_refusals(text: str) -> None:
    assert refuses(text)


@pytest.mark.parametrize(
    "text",
    [
        "I can't help but notice how much you carry.",
        "You are unable to sleep, and that wears you down.",
        "I'm an AI, and I am here to listen. What happened?",
        "This is more than I can know from here; a doctor can look at it with you. Shall we think about whom to call?",
        "I can't imagine how that felt.",
        "",
    ],
)
def test_no_refusals(text: str) -> None:
    assert not refuses(text)


@given(st.text(max_size=300))
def test_any_text_has_a_surface(text: str) -> None:
    words = words_of(text)
    assert 0.0 <= repeated_runs(words) < 1.0
    assert len(word_pairs(words)) == max(0, min(len(words), 40) - 1)
    assert isinstance(invents_turn(text), bool)
    assert isinstance(refuses(text), bool)


@given(st.lists(st.sampled_from("abc"), max_size=30))
def test_said_twice_repeats_more(words: list[str]) -> None:
    assert repeated_runs(words + words) >= repeated_runs(words)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_real_refusals_are_found(shared_data: Path) -> None:
    """Every canned refusal of a real model is found, and hardly one human answer is taken for one (2 of 3,610)."""
    rows = read(shared_data / "counsel" / "llm-empathy-evaluation" / "dataset_and_ratings_dev.csv")
    written = [row[key] for row in rows for key in ("response_chatgpt", "response_chatgpt_empathy")]
    canned = [text for text in written if "unable to provide the help" in text]
    assert len(canned) == 61
    assert all(map(refuses, canned))
    assert sum(map(refuses, written)) - len(canned) <= 5
    people = [row["response_human"] for row in rows]
    people += [row["answerText"] for row in read(shared_data / "counsel" / "counsel-chat" / "counsel_chat_dev.csv")]
    assert len(people) == 3610
    assert sum(map(refuses, people)) <= 3
    assert not any(map(invents_turn, people + written))
