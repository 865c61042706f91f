"""The settings of one patient's session, section by section, in the order in which they are used."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from strop.models.protocol import Sampling
from strop.runs.configuration import Config

TreatmentState = Literal["carried", "restart"]
"""Whether a plan meets the patient as the plans before it left them (the paper), or as the card has them (released)."""


AGAIN_TEMPERATURE = 0.7
"""Least temperature of a repeated question: greedily, a model repeats the reply that could not be read."""


class JudgeSampling(Config):
    """How the judge answers: it picks principles, writes feedback, scores states."""

    temperature: float = Field(0.0, ge=0)
    """Sampling temperature; the published judge takes 0.8."""
    max_tokens: int = Field(256, ge=1)
    """Longest reply in tokens."""
    again: int = Field(1, ge=0)
    """How many more times a reply that cannot be read is asked for."""

    def sampling(self, *, seed: int, repeat: int = 0) -> Sampling:
        """Return how a reply is drawn; a repeated question is warm enough to bring another one."""
        temperature = max(self.temperature, AGAIN_TEMPERATURE) if repeat else self.temperature
        return Sampling(temperature=temperature, max_tokens=self.max_tokens, seed=seed)


class SessionSettings(Config):
    """One patient's session: encode, talk, decode, diagnose, treat, medicate (MentalArena, section 3)."""

    encoder: bool = True
    """Give the patient the behaviour principles that fit its coping strategies."""
    decoder: bool = True
    """Ask the therapist what it has understood, compare it with the card, and feed back what is missing."""
    diagnosis: bool = True
    """Two diagnoses, of which the patient chooses; without them, plans are made for the patient as met."""
    treatment: bool = True
    """Propose treatments and keep the one after which the patient is best."""
    medicine: bool = True
    """The same for medication."""
    exchanges: int = Field(4, ge=1)
    """Exchanges before the first decoding: the therapist asks, the patient answers."""
    extra_rounds: int = Field(5, ge=0)
    """Most further rounds of one exchange and one decoding."""
    no_progress: int | None = Field(2, ge=1)
    """Rounds in a row without progress that end the decoding; null goes on to the cap, as released."""
    least_progress: float = Field(0.01, ge=0)
    """Rise of the mean similarity that counts as progress where no further field passes."""
    temperature: float = Field(0.8, gt=0)
    """Sampling temperature of patient and therapist."""
    max_tokens: int = Field(256, ge=1)
    """Longest turn, plan or state in tokens."""
    context_tokens: int = Field(4096, ge=64)
    """Most tokens of a request with its answer, by an estimate; the oldest exchanges are left out to keep it."""
    turn_tries: int = Field(4, ge=1)
    """How often a turn that breaks its role, or a part that cannot be read, is asked for."""
    english: bool = True
    """Discard turns in another language; switch it off for cards that are not in English."""
    tries: int = Field(7, ge=1)
    """Most treatments, and most medicines, that are tried."""
    good_enough: int = Field(9, ge=1, le=10)
    """Score of a state, 1 to 10, at which no further plan is tried."""
    treatment_state: TreatmentState = "carried"
    """Where a plan meets the patient: `carried` from plan to plan (the paper), or `restart` at the card (released)."""
    judge: JudgeSampling = JudgeSampling()
    """How the judge answers."""

    @model_validator(mode="after")
    def _room_to_ask(self) -> Self:
        if self.max_tokens >= self.context_tokens:
            raise ValueError(f"'max_tokens' {self.max_tokens} leaves no room in 'context_tokens' {self.context_tokens}")
        return self

    def sampling(self, *, seed: int) -> Sampling:
        """Return how patient and therapist speak."""
        return Sampling(temperature=self.temperature, max_tokens=self.max_tokens, seed=seed)
