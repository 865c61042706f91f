"""A small ViT on scikit-learn's digits, dense, with routed heads or with pruned ones: same start, batches and steps.

1,797 images of 8 x 8 pixels, offline. 600 to learn from (few, so that models differ), 400 to choose settings by, 797
for the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from strop.errors import UserError
from strop.heads.vision.budgets import first_shared
from strop.heads.vision.settings import VisionSettings
from strop.heads.vision.vit import MoHViTForImageClassification, from_vit
from strop.runs import derive_seed, stream

LEARNED_FROM, CHOSEN_BY = 600, 400
LAYERS, HEADS, WIDTH = 2, 8, 64
SPLIT_SEED = 0

Part = Literal["train", "development", "test"]


def _arm(shared: int, active: int, *, weigh_all: bool = False) -> VisionSettings:
    layout = first_shared(HEADS, shared=shared, active=active)
    # Fewer than 20 tokens an image: computing all heads and masking them is fastest, and exact.
    return VisionSettings(layers=(layout,) * LAYERS, weigh_all=weigh_all, backend="reference")


ARMS: Mapping[str, VisionSettings] = {
    "dense": _arm(8, 0),
    "weighted": _arm(8, 0, weigh_all=True),
    "moh_75": _arm(2, 4),
    "moh_50": _arm(2, 2),
    "pruned_75": _arm(6, 0),
    "pruned_50": _arm(4, 0),
    "no_heads": _arm(0, 0),
}
"""All heads; all heads, weighed as in the released full layers; 2 shared and 4 or 2 of 6 routed heads; the first 6 or 4
heads alone, without gates; and a model whose patches never see each other, which shows what attention is worth here."""


@dataclass(frozen=True)
class Digits:
    """Images of digits, (items, 1, 8, 8) between -1 and 1, and what they show."""

    pixels: Tensor
    labels: Tensor


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How every arm is trained.

    Attributes:
        steps: Optimiser steps.
        batch: Images a step, drawn anew from a shuffled pass each.
        rate: Peak learning rate of AdamW; a tenth of the steps up, then a cosine to zero.
        decay: Weight decay.
    """

    steps: int = 300
    batch: int = 40
    rate: float = 2e-3
    decay: float = 0.05


@dataclass(frozen=True)
class Trained:
    """A trained arm.

    Attributes:
        correct: Whether each image of the part was recognised.
        loss: Mean training loss of the last tenth of the steps.
        balance: Load-balance value, mean over layers and the last tenth of the steps; None where nothing routes.
        parameters: Weights of the model, router included.
        router_parameters: Of the router.
    """

    correct: Tensor
    loss: float
    balance: float | None
    parameters: int
    router_parameters: int


def load_digits(part: Part) -> Digits:
    """Return a part of the images; the parts do not overlap and are the same in every run."""
    from sklearn import datasets

    found = datasets.load_digits()
    order = list(range(len(found.target)))
    stream(SPLIT_SEED, "digits", "split").shuffle(order)
    edges = {"train": (0, LEARNED_FROM), "development": (LEARNED_FROM, LEARNED_FROM + CHOSEN_BY)}
    begin, end = edges.get(part, (LEARNED_FROM + CHOSEN_BY, len(order)))
    pixels = torch.tensor(found.images[order[begin:end]], dtype=torch.float32)[:, None] / 8.0 - 1.0
    return Digits(pixels, torch.tensor(found.target[order[begin:end]]))


def untrained(settings: VisionSettings, *, seed: int) -> MoHViTForImageClassification:
    """Return a model with the start of this seed: the same weights in every arm, routers at zero."""
    from transformers import ViTConfig, ViTForImageClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "digits", "start"))
        config = ViTConfig(
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=2 * WIDTH,
            image_size=8,
            patch_size=2,
            num_channels=1,
            num_labels=10,
        )
        return from_vit(ViTForImageClassification(config), settings)


def train_arm(
    settings: VisionSettings, learn: Digits, tested: Digits, *, seed: int, recipe: Recipe | None = None
) -> Trained:
    """Train one arm on one seed and test it once, at the end.

    Args:
        settings: Heads of the arm.
        learn: What it learns from.
        tested: What it is tested on.
        seed: Of the start and of the order of the images, the same in every arm.
        recipe: How it is trained.

    Raises:
        UserError: A batch is larger than what there is to learn from.
    """
    recipe = Recipe() if recipe is None else recipe
    if not 0 < recipe.batch <= len(learn.labels):
        raise UserError("a batch must fit into the images to learn from", value=recipe.batch)
    model = untrained(settings, seed=seed).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    warm = max(recipe.steps // 10, 1)
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimiser,
        [
            torch.optim.lr_scheduler.LinearLR(optimiser, start_factor=1 / warm, total_iters=warm),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(recipe.steps - warm, 1)),
        ],
        milestones=[warm],
    )
    losses, balances = [], []
    for index in _batches(len(learn.labels), seed=seed, recipe=recipe):
        loss = model(learn.pixels[index], labels=learn.labels[index]).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
        losses.append(loss.item())
        mean = model.moh_balance.mean()
        balances.append(None if mean is None else float(mean))
    last, noted = losses[-warm:], [value for value in balances[-warm:] if value is not None]
    return Trained(
        correct=_recognised(model, tested),
        loss=sum(last) / len(last),
        balance=sum(noted) / len(noted) if noted else None,
        parameters=sum(weight.numel() for weight in model.parameters()),
        router_parameters=sum(weight.numel() for name, weight in model.named_parameters() if ".router." in name),
    )


def _batches(items: int, *, seed: int, recipe: Recipe) -> list[list[int]]:
    """Return the images of every step: whole batches of shuffled passes."""
    generator, order = stream(seed, "digits", "order"), list(range(items))
    batches: list[list[int]] = []
    while len(batches) < recipe.steps:
        generator.shuffle(order)
        whole = range(0, items - recipe.batch + 1, recipe.batch)
        batches += [order[begin : begin + recipe.batch] for begin in whole]
    return batches[: recipe.steps]


@torch.no_grad()
def _recognised(model: MoHViTForImageClassification, tested: Digits) -> Tensor:
    model.eval()
    found: Tensor = model(tested.pixels).logits.argmax(-1) == tested.labels
    return found
