"""TRL's reward trainer with one output or several, and the choice of the best state on development pairs.

This module loads torch, transformers and TRL: import it inside functions only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import logsigmoid
from transformers import TrainerCallback
from trl import RewardTrainer
from trl.trainer.reward_trainer import DataCollatorForPreference

from strop.models.rewards.reading import segments
from strop.records.tables import atomic_path
from strop.training.job import BEST, LOOKS
from strop.training.trainers import Contained, PairsCountAlike


@dataclass
class SignedPairs(DataCollatorForPreference):  # type: ignore[misc]
    """TRL's collator of pairs, with the directions of their ratings by principle and an encoder's segments.

    Attributes:
        separator: Id of an encoder's separator; None for other models.
    """

    separator: int | None = None

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return TRL's batch, and ``signs`` where the rows have them."""
        batch: dict[str, Any] = super().torch_call(examples)
        if self.separator is not None:
            batch["token_type_ids"] = segments(batch["input_ids"], self.separator)
        if "signs" in examples[0]:
            batch["signs"] = torch.tensor([example["signs"] for example in examples])
        return batch


class BradleyTerryTrainer(PairsCountAlike, Contained, RewardTrainer):  # type: ignore[misc]
    """Bradley and Terry's loss on pairs of tokenised texts, with one output or one for each principle.

    With several outputs the reward is their mean. Each output also learns from the pairs whose ratings differ on its
    principle, in the direction of the ratings, with the weight that all of them together count as much as the mean.
    """

    def __init__(
        self, *, model: Any, args: Any, processing_class: Any, separator: int | None = None, **arguments: Any
    ) -> None:
        labels = model.config.num_labels
        # TRL takes models of one output only; the loss below is the one that several need.
        model.config.num_labels = 1
        collator = SignedPairs(pad_token_id=processing_class.pad_token_id, separator=separator)
        super().__init__(model=model, args=args, processing_class=processing_class, data_collator=collator, **arguments)
        self.model.config.num_labels = labels
        # The loss below is a mean over pairs, whatever transformers thinks that the model can count.
        self.model_accepts_loss_kwargs = False

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the loss of a batch whose first half are chosen and whose second half rejected texts."""
        weight = next(self._weights)
        signs = inputs.pop("signs", None)
        outputs = model(**inputs)
        chosen_bh, rejected_bh = outputs.logits.float().chunk(2)
        chosen_b, rejected_b = chosen_bh.mean(-1), rejected_bh.mean(-1)
        loss = -logsigmoid(chosen_b - rejected_b).mean()
        if signs is not None:
            signs_bh = signs.to(chosen_bh.device)
            by_principle_bh = -logsigmoid(signs_bh * (chosen_bh - rejected_bh)) * signs_bh.abs()
            loss = loss + (by_principle_bh.sum(-1) / signs_bh.abs().sum(-1).clamp(min=1)).mean()
        coefficient = self.args.center_rewards_coefficient
        if coefficient is not None:
            loss = loss + coefficient * (chosen_b + rejected_b).square().mean()
        metrics = self._metrics["train" if self.model.training else "eval"]
        margins_b = self.accelerator.gather((chosen_b - rejected_b).detach())
        metrics["accuracy"].append((margins_b > 0).float().mean().item())
        metrics["margin"].append(margins_b.mean().item())
        loss = loss * weight
        return (loss, outputs) if return_outputs else loss


class Selection(TrainerCallback):  # type: ignore[misc]
    """Looks at development pairs as a training goes on, and keeps the trained weights of the best look.

    The best is kept on disk with its figures, so that a continued training knows what it was.
    """

    def __init__(self, *, every: int, look: Any, folder: Path) -> None:
        """Prepare.

        Args:
            every: Steps between looks; 0 looks at the end of every epoch.
            look: Returns (accuracy, loss) on the development pairs.
            folder: Where the best is kept.
        """
        self._every, self._look, self.folder = every, look, folder
        self.looks: list[dict[str, float]] = read_looks(folder)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Look where it is time to."""
        if (self._every and state.global_step % self._every == 0) or state.global_step == state.max_steps:
            self._consider(model, state)

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Look where no number of steps is set."""
        if not self._every:
            self._consider(model, state)

    def _consider(self, model: Any, state: Any) -> None:
        if any(look["step"] >= state.global_step for look in self.looks):
            return
        accuracy, loss = self._look(model)
        look = {"step": float(state.global_step), "accuracy": accuracy, "loss": loss}
        if not self.looks or _rank(look) > max(map(_rank, self.looks)):
            keep_trained(model, self.folder)
        self.looks.append(look)
        (self.folder / LOOKS).write_text(json.dumps(self.looks), encoding="utf-8")


def _rank(look: dict[str, float]) -> tuple[float, float]:
    return look["accuracy"], -look["loss"]


def read_looks(folder: Path) -> list[dict[str, float]]:
    """Return the looks that an earlier process took."""
    file = folder / LOOKS
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []


def keep_trained(model: Any, folder: Path) -> None:
    """Write the weights that are trained, whole or not at all."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    trained = {name: value.detach().contiguous() for name, value in model.named_parameters() if value.requires_grad}
    with atomic_path(folder / BEST) as part:
        save_file(trained, part)


def restore_trained(model: Any, folder: Path) -> None:
    """Put the best look's weights back into the model."""
    from safetensors.torch import load_file

    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in load_file(folder / BEST).items():
            parameters[name].copy_(value)
