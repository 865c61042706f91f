"""What a reward model's folder says about itself: ``reward.json``, beside the weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, pstdev
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from strop.errors import UserError
from strop.records.tables import atomic_path

REWARD_FILE = "reward.json"


class Normalisation(BaseModel):
    """Mean and standard deviation of the rewards of the development responses."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: float
    std: float = Field(gt=0)
    n: int = Field(ge=2)

    def apply(self, reward: float) -> float:
        """Return the reward in standard deviations from the mean."""
        return (reward - self.mean) / self.std


class RewardFacts(BaseModel):
    """How a reward model reads, how long a text it takes, and what its outputs are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    form: Literal["chat", "plain", "pair"]
    """`chat`: the chat template with the response as its last turn; `plain`: prompt, a space, response; both end with
    one end token, from which the score is read. `pair`: an encoder's two segments."""
    max_length: int = Field(ge=2)
    """Longest text in tokens; a longer one is refused."""
    heads: tuple[str, ...] = ()
    """Principles, one output each, whose mean is the reward; empty: one output, the reward itself."""
    base: str
    """The model that the training started from."""
    normalisation: Normalisation | None = None
    """Raw rewards have no scale of their own; None where they were not measured."""

    def write(self, folder: Path) -> None:
        """Write the facts into a model folder."""
        with atomic_path(folder / REWARD_FILE) as part:
            part.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the facts of a folder.

        Raises:
            UserError: The folder is no reward model of strop's.
        """
        file = folder / REWARD_FILE
        if not file.is_file():
            fix = "train one with `strop reward train`, or give the URL of a served one"
            raise UserError(
                "no reward model in this folder", value=str(folder), why=f"it has no {REWARD_FILE}", fix=fix
            )
        try:
            return cls.model_validate(json.loads(file.read_text(encoding="utf-8")))
        except ValueError as error:
            raise UserError(f"{file}: cannot be read", why=str(error)) from error


def measured(facts: RewardFacts, rewards: Sequence[float]) -> RewardFacts:
    """Return the facts with the mean and the standard deviation of some rewards; as they are where all are equal."""
    if len(rewards) < 2 or pstdev(rewards) == 0:
        return facts
    scale = Normalisation(mean=fmean(rewards), std=pstdev(rewards), n=len(rewards))
    return facts.model_copy(update={"normalisation": scale})


def is_reward_folder(folder: Path) -> bool:
    """Say whether a folder holds a reward model."""
    return (folder / REWARD_FILE).is_file()
