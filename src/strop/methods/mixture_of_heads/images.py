"""The published models of images: their settings and what training them would need.

strop builds these models, their losses and a sampling step (`strop.heads.vision`), and trains the small one of
`scripts/heads_digits.py`. It has no pipeline for ImageNet: a recipe with `images` can be read and planned, not run.
"""

from __future__ import annotations

from math import ceil
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from strop.errors import UserError
from strop.heads.vision.budgets import BUDGETS, Budget, budget_named
from strop.models.lengths import Range
from strop.runs.configuration import Config
from strop.training.planning import Plan, PlannedStage, Totals

IMAGENET = 1_281_167
"""Training images of ImageNet-1K."""


def _known(name: str) -> str:
    if name not in BUDGETS:
        raise ValueError(f"no published head budget {name!r}; there are {', '.join(BUDGETS)}")
    return name


class ImageTraining(Config):
    """A published model of images: its heads, and how its authors trained it on ImageNet-1K."""

    budget: Annotated[str, AfterValidator(_known)]
    """Which heads each layer has, by the published name (`strop.heads.vision.budgets`)."""
    resolution: int = Field(ge=8)
    """Side of the images in pixels."""
    latents: bool = False
    """Learn the latents of a variational autoencoder instead of pixels."""
    epochs: int | None = Field(None, ge=1)
    """Passes over the images; null where `steps` says how long."""
    steps: int | None = Field(None, ge=1)
    """Optimiser steps; null where `epochs` says how long."""
    batch_size: int = Field(ge=1)
    """Images a step, over all devices."""
    learning_rate: float = Field(gt=0)
    """Peak rate of AdamW."""
    schedule: Literal["constant", "cosine"]
    """How the rate falls."""
    final_rate: float | None = Field(None, gt=0)
    """Where a cosine ends."""
    warmup_epochs: int = Field(0, ge=0)
    """Epochs in which the rate rises."""
    warmup_rate: float | None = Field(None, gt=0)
    """Where it rises from."""
    cooldown_epochs: int = Field(0, ge=0)
    """Epochs at the final rate, after the others."""
    weight_decay: float = Field(ge=0)
    """Of AdamW."""
    max_grad_norm: float | None = Field(None, gt=0)
    """Gradients are cut to this norm; null cuts none."""
    precision: Literal["fp16", "bf16", "fp32"]
    """Number type of the arithmetic."""
    average: float | None = Field(None, gt=0, lt=1)
    """Decay of the moving average of the weights that is evaluated; null evaluates the weights themselves."""
    balance: float = Field(0.01, ge=0)
    """Weight of the load-balance value, the mean over the layers that route."""
    drop_path: float = Field(0.0, ge=0, lt=1)
    """Share of residual branches that are left out at the last layer, less at earlier ones."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Of the classes."""
    label_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of images that are learned without their class, for guidance."""
    mixup: float = Field(0.0, ge=0)
    """Strength of mixed images."""
    cutmix: float = Field(0.0, ge=0)
    """Strength of pasted images."""
    erasing: float = Field(0.0, ge=0, le=1)
    """Share of images of which a part is erased."""
    augmentation: Literal["flip", "randaugment_m9_repeated"]
    """Flips alone, or RandAugment of magnitude 9 with repeated augmentation."""
    guidance: tuple[float, ...] = ()
    """Strengths of classifier-free guidance that are evaluated."""

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("'epochs' or 'steps' says how long training lasts: give one of them")
        return self

    @property
    def heads(self) -> Budget:
        """The budget."""
        return budget_named(self.budget)

    @property
    def optimiser_steps(self) -> int:
        """Steps in all, cooldown included."""
        if self.steps is not None:
            return self.steps
        # A last batch that is not full is left out, as the authors' loader does.
        return ((self.epochs or 0) + self.cooldown_epochs) * (IMAGENET // self.batch_size)


def images_plan(settings: ImageTraining) -> Plan:
    """Return what training the model would need, and say that strop does not do it."""
    budget, steps = settings.heads, settings.optimiser_steps
    passes = ceil(steps * settings.batch_size / IMAGENET)
    stage = PlannedStage(f"images-{settings.budget}", None, steps=Range.exactly(steps))
    share = budget.share
    notes = (
        "This recipe can be read and planned, not run: strop has no pipeline for ImageNet. What exists: the model, its "
        "losses and a sampling step in strop.heads.vision; scripts/heads_digits.py trains a small one.",
        f"Needed: ImageNet-1K ({IMAGENET:,} images; {passes:,} passes over them at {settings.resolution} pixels"
        f"{', and an autoencoder for their latents' if settings.latents else ''}), and GPUs.",
        f"{settings.budget}: {share.describe()}; {budget.router_parameters:,} router weights. The published "
        f"{budget.published_parameters} M parameters are those of the authors' backbone, not of ours.",
        "Heads, early layers first, shared + active of all: " + budget.describe() + ".",
    )
    return Plan((stage,), Totals.of((stage,)), notes)


def refuse_training(settings: ImageTraining) -> None:
    """Refuse a run before anything is spent.

    Raises:
        UserError: Always.
    """
    raise UserError(
        "strop plans the published models of images and does not train them",
        value=settings.budget,
        why="it has no pipeline for ImageNet, and such a model needs GPUs",
        fix="build the model with strop.heads.vision and train it in a pipeline of your own; "
        "scripts/heads_digits.py trains a small one here",
    )
