"""A policy between its rounds: whole weights, or an adapter on the initial policy, merged where it must answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from strop.models.placement import Placement, open_placed
from strop.models.protocol import Sampling, TextModel
from strop.models.spec import ModelSpec
from strop.models.weights import folder_revision
from strop.runs import Artifact, Stage
from strop.training.machine import Model, weights_of
from strop.training.weights import ADAPTER_FOLDER, merged_folder


@dataclass(frozen=True, slots=True)
class Answering:
    """How policies answer when they are examined: one sample a speech at temperature 1, the same noise for all.

    Attributes:
        system: System message in front of every speech.
        max_tokens: Longest answer.
        seed: Of the samples.
    """

    system: str
    max_tokens: int
    seed: int

    @property
    def sampling(self) -> Sampling:
        """How to draw the samples."""
        return Sampling(1.0, max_tokens=self.max_tokens, seed=self.seed)


def adapter_of(policy: Model) -> Path | None:
    """Return the folder of the adapter that a round has trained, or None where it trained all weights."""
    if not isinstance(policy, Artifact):
        return None
    folder = policy.path("model") / ADAPTER_FOLDER
    return folder if folder.is_dir() else None


def is_whole(policy: Model) -> bool:
    """Say whether a policy's folder holds whole weights, so that anything can open it."""
    return isinstance(policy, ModelSpec) or any(policy.path("model").glob("*.safetensors"))


def policy_weights(stage: Stage, policy: Model, initial: Model) -> Path:
    """Return a folder of a policy's whole weights; an adapter is merged into the stage's work folder, which goes away.

    Args:
        stage: The stage that needs them.
        policy: Whole weights, or an adapter alone.
        initial: What the adapter was trained on.
    """
    adapter = adapter_of(policy)
    if adapter is None or is_whole(policy):
        return weights_of(policy)
    return merged_folder(weights_of(initial), adapter, stage.work / f"policy-{folder_revision(adapter)[:12]}")


def open_policy(stage: Stage, policy: Model, initial: Model, placement: Placement) -> TextModel:
    """Open a policy to answer: a model of the configuration, or one that the run has trained."""
    return open_placed(policy if isinstance(policy, ModelSpec) else policy_weights(stage, policy, initial), placement)
