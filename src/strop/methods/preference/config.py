"""The settings of a preference-learning run, section by section, in the order in which they are used."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from strop.judging.contest.answering import Contestant
from strop.judging.contest.results import Evaluation
from strop.judging.rating import Mode
from strop.judging.settings import JudgeSettings
from strop.methods.preference.online_config import OnlineSettings
from strop.methods.preference.pairing import PairSettings
from strop.methods.preference.speeches import SpeechSettings
from strop.models.spec import BaseField, ModelField
from strop.runs.configuration import Config
from strop.runs.shipped import DataPath
from strop.training.machine import Machine
from strop.training.mixing import Mix
from strop.training.settings import PreferenceSettings, RewardSettings


class Candidates(Config):
    """Who writes the responses that are rated."""

    pool: tuple[Contestant, ...] = Field(min_length=2)
    """The models; each with its name, its sampling and, where it has one, its own system message."""
    per_speech: int = Field(4, ge=2)
    """Models drawn for each speech; each writes one response."""
    prompts: tuple[str, ...] = ()
    """System messages, one drawn for each response of a model without its own; empty takes strop's."""
    word_limit: int | None = Field(None, ge=10)
    """The most words that every writer is asked for; null asks for nothing."""

    @model_validator(mode="after")
    def _enough_models(self) -> Self:
        if self.per_speech > len(self.pool):
            raise ValueError(f"'per_speech' is {self.per_speech} and 'pool' has {len(self.pool)} models")
        labels = [one.label for one in self.pool]
        if len(set(labels)) < len(labels):
            raise ValueError("two models of 'pool' have one name: give each its own 'name'")
        return self


class Ratings(Config):
    """Who rates the responses, by which principles."""

    judge: JudgeSettings
    """The judge; its rubric's criteria are the principles."""
    mode: Mode = "all"
    """All principles in one call, `each` in its own, or in one call in a `shuffled` order."""
    repeats: int = Field(0, ge=0)
    """How many more times each response is rated, to tell how noisy the labels are."""
    repeat_temperature: float = Field(0.7, gt=0)
    """Temperature of the repeats; the rating that counts is greedy."""


class RewardModel(Config):
    """A reward model and what it learns from besides the pairs of the run."""

    model: BaseField
    """The model to start from, or an encoder; the paper takes the policy's own."""
    train: RewardSettings
    """Bradley-Terry on the training pairs, selected on the development pairs."""
    mix: Mix | None = None
    """General pairs to learn from beside those of the domain; null leaves them out."""
    rated: tuple[DataPath, ...] = ()
    """Files of rated responses to learn from in place of the run's own, as a second reward model should."""


class Policy(Config):
    """The model that is trained to answer."""

    model: ModelField
    """Where it starts, and the reference throughout."""
    system: str = ""
    """System message in front of every speech, in training and in answering."""
    max_tokens: int = Field(512, ge=1)
    """Longest answer in tokens when it is examined and compared."""
    examined: int | None = Field(None, ge=2)
    """Development speeches on which every round of online DPO is examined; null takes all."""
    dpo: PreferenceSettings | None = None
    """Offline DPO on the pairs; null leaves it out."""
    online: OnlineSettings | None = None
    """Online iterative DPO by the reward model; null leaves it out."""


class Comparison(Evaluation):
    """How the policies are compared with an opponent, on speeches that nothing was trained on."""

    opponent: Contestant | None = None
    """Whom every policy stands against; null takes the initial policy."""
    judge: JudgeSettings | None = None
    """Who compares; null takes the second reward model, which is no qualified judge, and the report says so."""
    word_limits: tuple[int | None, ...] = (None,)
    """Comparisons to make: each asks both contestants for at most so many words; null asks for nothing."""
    tuned_prompt: str = ""
    """A system message with which the initial policy also stands: the baseline that training must beat."""
    limit: int | None = Field(None, ge=1)
    """Compare on the first so many test speeches; null takes all."""


class Planning(Config):
    """What a plan assumes where nothing was measured; a run reads none of it."""

    speeches: int | None = Field(None, ge=1)
    """How many speeches there are, for a plan before their files are on this machine."""
    speech_tokens: tuple[int, int] = (25, 250)
    """Fewest and most tokens of a speech with its instructions, on average."""
    response_tokens: tuple[int, int] = (60, 400)
    """Fewest and most tokens of a response, on average."""
    reply_tokens: tuple[int, int] = (100, 400)
    """Fewest and most tokens of a judge's reply, on average."""
    rubric_tokens: tuple[int, int] = (600, 1500)
    """Fewest and most tokens of the rubric in a judge's question."""
    tokens_per_second: tuple[float, float] | None = None
    """Slowest and fastest, prompt and answer together, over all parallel calls; null tells no time."""
    seconds_per_step: tuple[float, float] | None = None
    """Fastest and slowest optimiser step; null tells no time."""


class PreferenceConfig(Config):
    """From written principles to an aligned counsellor model (Zhang, Eack and Chen, 2025, arXiv 2502.19731)."""

    recipe: Literal["preference"]
    """The method."""
    seed: int = 0
    """Of splits, draws, sampling and trainings."""
    speeches: SpeechSettings
    """The clients' messages."""
    candidates: Candidates | None = None
    """Who answers them; null with `rated`."""
    ratings: Ratings | None = None
    """Who rates the answers; null with `rated`."""
    rated: tuple[DataPath, ...] = ()
    """Files of responses that are rated already, in place of `candidates` and `ratings`."""
    pairs: PairSettings = PairSettings()
    """From ratings to preference pairs."""
    reward: RewardModel
    """The reward model."""
    second_reward: RewardModel | None = None
    """Another reward model that nothing is trained on; it tells whether a gain is more than the first one's taste."""
    policy: Policy
    """What is trained."""
    comparison: Comparison | None = None
    """Win rates; null leaves them out."""
    planning: Planning = Field(Planning(), json_schema_extra={"fingerprint": False})
    """What `strop plan` assumes."""
    machine: Machine = Machine()
    """Where the run takes place."""

    @model_validator(mode="after")
    def _one_source_of_ratings(self) -> Self:
        made = self.candidates is not None and self.ratings is not None
        if bool(self.rated) == made or (self.candidates is None) != (self.ratings is None):
            raise ValueError("give 'candidates' and 'ratings', or files of 'rated' responses")
        return self

    @model_validator(mode="after")
    def _somebody_compares(self) -> Self:
        if self.comparison is not None and self.comparison.judge is None and self.second_reward is None:
            raise ValueError("'comparison' needs a 'judge', or 'second_reward' to compare in its place")
        return self
