"""Pairs that need no session: a story with the beliefs behind it, a situation with what the patient made of it.

The released repository holds 212 of them, two a card; nothing there makes or uses them, and the paper does not say what
they are for. They teach how cards hang together, before the first iteration or beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from strop.methods.selfplay.cards import Card
from strop.records.rows import Message, SupervisedExample


@dataclass(frozen=True, slots=True)
class SeedQuestions:
    """What is asked, in our words.

    Attributes:
        system: The role.
        diagram: Asks for beliefs and coping behind a history.
        reaction: Asks for thoughts, emotions and behaviour in a situation.
    """

    system: str = "You are an expert in cognitive behavioural therapy."
    diagram: str = "Which intermediate beliefs does this patient live by, also when depressed, and how does it cope?"
    reaction: str = "What goes through the mind of this patient in this situation, what does it feel, what does it do?"


SEED_QUESTIONS = SeedQuestions()


def seed_pairs(
    card: Card, *, emotions: Literal["joined", "repr"] = "joined", questions: SeedQuestions = SEED_QUESTIONS
) -> tuple[SupervisedExample, SupervisedExample]:
    """Return the two seed pairs of a card, in the lines of `strop.methods.selfplay.cards.symptom_text`.

    Args:
        card: The patient.
        emotions: ``joined`` with commas, or ``repr`` as released.
        questions: The words of the questions.

    Returns:
        From the history to the two intermediate beliefs and the coping strategies; from those and the situation to
        automatic thoughts, emotions and behaviour.
    """
    beliefs = [f"Intermediate Beliefs: {card.intermediate_belief}"]
    if card.intermediate_belief_depression:
        beliefs.append(f"Intermediate Beliefs during Depression: {card.intermediate_belief_depression}")
    diagram = "\n".join([*beliefs, f"Coping Strategies: {card.coping_strategies}"])
    felt = repr(list(card.emotions)) if emotions == "repr" else ", ".join(card.emotions)
    reaction = [f"Automatic Thoughts: {card.automatic_thought}", f"Emotions: {felt}", f"Behavior: {card.behavior}"]
    situation = f"Cognitive Conceptualization Diagram:\n{diagram}\n\nSituation: {card.situation}"
    return (
        _example(f"{card.id}/diagram", f"Patient History: {card.history}", questions.diagram, diagram, questions),
        _example(f"{card.id}/reaction", situation, questions.reaction, "\n".join(reaction), questions),
    )


def _example(name: str, told: str, question: str, answer: str, questions: SeedQuestions) -> SupervisedExample:
    prompt = (Message("system", questions.system), Message("user", f"{told}\n\n{question}"))
    return SupervisedExample(name, prompt, answer)
