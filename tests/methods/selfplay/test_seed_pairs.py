"""Seed pairs by hand, and of every shipped card."""

from __future__ import annotations

import pytest

from strop.methods.selfplay.cards import CARDS, Card, CoreBeliefs, read_cards, symptom_text
from strop.methods.selfplay.seed_pairs import SEED_QUESTIONS, seed_pairs
from strop.records.rows import Message

CARD = Card("1-1", "N", (), "HIST", CoreBeliefs(), "BELIEF", "LOW", "COPE", "SIT", "THOUGHT", ("sad", "tense"), "ACT")


def test_by_hand() -> None:
    first, second = seed_pairs(CARD)
    assert first.prompt == (
        Message("system", SEED_QUESTIONS.system),
        Message("user", f"Patient History: HIST\n\n{SEED_QUESTIONS.diagram}"),
    )
    diagram = "Intermediate Beliefs: BELIEF\nIntermediate Beliefs during Depression: LOW\nCoping Strategies: COPE"
    assert first.response == diagram
    assert second.prompt[1] == Message(
        "user",
        f"Cognitive Conceptualization Diagram:\n{diagram}\n\nSituation: SIT\n\n{SEED_QUESTIONS.reaction}",
    )
    assert second.response == "Automatic Thoughts: THOUGHT\nEmotions: sad, tense\nBehavior: ACT"
    assert seed_pairs(CARD, emotions="repr")[1].response.splitlines()[1] == "Emotions: ['sad', 'tense']"


@pytest.mark.skipif(not CARDS.is_file(), reason="no cards are shipped")
def test_two_pairs_a_card_say_what_its_symptom_says() -> None:
    """Every line of the encoded symptom is asked about or answered in one of the two pairs."""
    for card in read_cards():
        first, second = seed_pairs(card)
        told = [message.content for pair in (first, second) for message in pair.prompt if isinstance(message, Message)]
        lines = {line for text in (*told, first.response, second.response) for line in text.splitlines()}
        missing = set(symptom_text(card).splitlines()) - lines
        assert missing <= {"The experience in a week."}
