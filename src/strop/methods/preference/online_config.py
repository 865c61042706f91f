"""The settings of online iterative DPO and of the watch that ends it when the policy games its reward."""

from __future__ import annotations

from pydantic import Field

from strop.runs.configuration import Config
from strop.training.settings import PreferenceSettings


class WatchLimits(Config):
    """How far a policy may move from where it started; one limit crossed stops the run. Null switches a limit off."""

    length_ratio: float | None = Field(1.8, gt=1)
    """Most words of an answer, on average, over those of the initial policy."""
    shortness_ratio: float | None = Field(0.4, gt=0, lt=1)
    """Fewest words of an answer, on average, over those of the initial policy."""
    distinct_2_ratio: float | None = Field(0.7, gt=0, lt=1)
    """Least share of different word pairs in an answer, over that of the initial policy."""
    repetition: float | None = Field(0.25, gt=0, lt=1)
    """Largest share of an answer's four-word runs that have occurred in it before."""
    invented_turns: float | None = Field(0.1, gt=0, lt=1)
    """Largest share of answers in which the policy goes on to speak for the client, above the initial policy's."""
    refusals: float | None = Field(0.1, gt=0, lt=1)
    """Largest share of answers that refuse to help, above the initial policy's."""
    empty: float | None = Field(0.1, gt=0, lt=1)
    """Largest share of empty answers, above the initial policy's."""
    kl: float | None = Field(0.5, gt=0)
    """Largest divergence from the initial policy, in nats a token."""


class OnlineSettings(Config):
    """Online iterative DPO (PsychoCounsel's DPO-Iter): the policy's own samples, ranked by the reward model."""

    iterations: int = Field(16, ge=1)
    """Rounds of sampling, scoring and training."""
    speeches: int = Field(6400, ge=1)
    """Speeches of a round: the next slice of the training speeches; after the last comes the first again."""
    samples: int = Field(8, ge=2)
    """Answers to each speech."""
    temperature: float = Field(1.0, gt=0)
    """Sampling temperature."""
    max_tokens: int = Field(512, ge=1)
    """Longest sample in tokens."""
    train: PreferenceSettings
    """DPO on the best against the worst sample; the reference is the initial policy throughout."""
    reward: str | None = None
    """What rewards the samples: null is the run's reward model; else a folder, the URL of a served one, or `words`, which
    counts them and shows what the watch is for."""
    gate: bool = True
    """Never prefer an answer that fails the safety gate."""
    limits: WatchLimits = WatchLimits()
    """When to stop."""
