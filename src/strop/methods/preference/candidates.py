"""Which models answer a speech, and with which instructions: a seeded draw for each speech (PsychoCounsel)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from strop.runs.seeds import stream

if TYPE_CHECKING:
    from strop.methods.preference.config import Candidates

PROMPTS = (
    "You are a psychotherapist. A client writes the message below. Write the reply that you would give them.",
    "You work as a counsellor. Answer this client in your own words, as you would in a session: attentive, honest, and "
    "without lecturing.",
    "Take the part of an experienced psychological counsellor and answer the client's message. Respond to what they "
    "say and to what they seem to feel.",
    "A client has told you the following. You are their therapist. Say what would help them most at this moment, and "
    "leave decisions with them.",
    "You are a mental-health professional who answers clients in writing. Write one reply, in plain words, to this "
    "client only.",
)
"""System messages for models without their own: several, so that wording is no mark of a model. The paper's one is not
published."""


class Draw(NamedTuple):
    """One response to be written.

    Attributes:
        id: A letter that names the response within its speech and tells nothing of its model.
        model: Number of the model in the pool, from 0.
        system: The system message, without a word limit.
    """

    id: str
    model: int
    system: str


def draw_candidates(speech: str | int, candidates: Candidates, *, seed: int) -> list[Draw]:
    """Return who answers a speech: `per_speech` different models of the pool, in a random order.

    The draw depends on the seed, the speech's id and the pool, and on no other speech. Every set of models is equally
    likely, and so is every order: letter `a` goes to each model equally often.

    Args:
        speech: The speech's id.
        candidates: Pool, models a speech, system messages.
        seed: The run seed.
    """
    random = stream(seed, "candidates", speech)
    drawn = random.sample(range(len(candidates.pool)), candidates.per_speech)
    prompts = candidates.prompts or PROMPTS
    systems = [random.choice(prompts) for _ in drawn]
    return [
        Draw(letter(place), model, candidates.pool[model].system or system)
        for place, (model, system) in enumerate(zip(drawn, systems, strict=True))
    ]


def letter(place: int) -> str:
    """Return the name of a response by its place: ``a`` to ``z``, then ``aa``."""
    quotient, rest = divmod(place, 26)
    return (letter(quotient - 1) if quotient else "") + chr(ord("a") + rest)
