"""The settings of online iterative DPO and of the watch that ends it when the policy games its reward."""

from __future__ import annotations

from pydantic import Field

from strop.runs.configuration import Config
from strop.training.settings import PreferenceSettings


class WatchLimits(Config):
    """How far a policy may move from where it started; one limit broken stops the run. Null switches a limit off."""

    length_ratio: float | None = Field(1.8, gt=1)
    """Most words of an answer, on average, over those of the initial policy."""
    shortness_ratio: float | None = Field(0.4, gt=0, lt=1)
    """Fewest words of an answer, on average, over those of the initial policy."""
    distinct_2_ratio: float | None = Field(0.7, gt=0, lt=1)
    """Least share of different word pairs among all answers, over that of the initial policy."""
    repetition: float | None = Field(0.15, gt=0, lt=1)
    """Largest rise of the share of an answer's four-word runs that have occurred in it before."""
    invented_turns: float | None = Field(0.1, gt=0, lt=1)
    """Largest rise of the share of answers in which the policy goes on to speak for the client."""
    refusals: float | None = Field(0.1, gt=0, lt=1)
    """Largest rise of the share of answers that refuse to help."""
    empty: float | None = Field(0.1, gt=0, lt=1)
    """Largest rise of the share of empty answers."""
    cut: float | None = Field(0.2, gt=0, lt=1)
    """Largest rise of the share of answers that the token limit cuts: growth that the limit hides from the length."""
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
    """What rewards the samples: null is the run's reward model; else a folder, the URL of a served one, or `words`,
    which counts them and shows what the watch is for."""
    gate: bool = True
    """Never prefer an answer that fails the safety gate."""
    cut_may_win: bool = False
    """Prefer an answer that the token limit cut, where it has the highest reward: training then teaches the policy to
    end there."""
    limits: WatchLimits = WatchLimits()
    """When to stop."""
