"""TRL's trainers, with what reaches outside the job taken away and rows taken as already tokenised.

This module loads torch, transformers and TRL: import it inside functions only.
"""

from __future__ import annotations

import os

# TRL warns on every import of its experimental part; ORPO lives there.
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, TrainerCallback
from trl import DPOTrainer, SFTTrainer
from trl.experimental.orpo import ORPOTrainer

from strop.errors import UserError
from strop.training.arguments import COMPLETE
from strop.training.reference import ReferenceCache


class Contained:
    """Mixed into TRL's trainers: no telemetry, no model card, no printed logs."""

    def _send_telemetry(self) -> None:
        return

    def create_model_card(self, **_: Any) -> None:
        """Write none."""
        return


class SupervisedTrainer(Contained, SFTTrainer):  # type: ignore[misc]
    """SFT: mean negative log-likelihood of the response tokens in the whole batch."""


class PairsCountAlike:
    """Mixed into preference trainers: each pair of an optimiser step has the same weight.

    TRL averages the means of the micro-batches, so that the pairs of a ragged last one would count for more.
    """

    _weights: Iterator[float]

    def get_batch_samples(self, *arguments: Any) -> tuple[list[Any], Any]:
        """Return the micro-batches of a step, and note how many pairs each holds."""
        batches, items = super().get_batch_samples(*arguments)  # type: ignore[misc]
        pairs = [next(iter(batch.values())).shape[0] for batch in batches]
        self._weights = iter([count * len(pairs) / sum(pairs) for count in pairs])
        return batches, items

    def compute_loss(self, *arguments: Any, **named: Any) -> Any:
        """Return a micro-batch's loss with the weight of its pairs."""
        return super().compute_loss(*arguments, **named) * next(self._weights)  # type: ignore[misc]


class DirectPreferenceTrainer(PairsCountAlike, Contained, DPOTrainer):  # type: ignore[misc]
    """DPO on tokenised pairs, with reference log-probabilities from our cache.

    TRL keeps the cache of an in-memory data set in a temporary folder of one process, where no other process and no
    later run finds it.
    """

    def __init__(self, *, references: ReferenceCache, **arguments: Any) -> None:
        self._references = references
        super().__init__(**arguments)

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, _name: str, batch_size: int) -> Any:
        ready = self._references.attach(self, dataset, batch_size)
        # From here on its log-probabilities stand for it: a second model in memory would serve nobody.
        self.ref_model = None
        return ready


class OddsRatioTrainer(PairsCountAlike, Contained, ORPOTrainer):  # type: ignore[misc]
    """ORPO on tokenised pairs.

    The paper's loss (eq. 6) is the likelihood of the chosen response plus the odds-ratio term, averaged over pairs.
    TRL takes the likelihood over prompt and response together, averaged over the tokens of a micro-batch, so its loss
    depends on how a batch is cut up. `nll_over_response` selects the paper's.
    """

    def __init__(self, *, nll_over_response: bool, **arguments: Any) -> None:
        self._nll_over_response = nll_over_response
        super().__init__(**arguments)

    @staticmethod
    def tokenize_row(feature: dict[str, Any]) -> dict[str, Any]:
        """Leave a row as it is: it holds tokens already."""
        return feature

    def concatenated_forward(self, model: Any, batch: dict[str, Any]) -> tuple[Any, ...]:
        """Return TRL's log-probabilities and logits, with the likelihood term of the chosen definition."""
        chosen, rejected, chosen_logits, rejected_logits, nll, *rest = super().concatenated_forward(model, batch)
        if self._nll_over_response:
            nll = -chosen.mean()
        return (chosen, rejected, chosen_logits, rejected_logits, nll, *rest)


class Watch(TrainerCallback):  # type: ignore[misc]
    """Reports each step, marks complete checkpoints, and stops on a loss that is no number."""

    def __init__(self, advance: Any) -> None:
        self._advance = advance

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report the number of steps done."""
        if state.is_world_process_zero:
            self._advance(state.global_step, state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        """Stop on NaN or infinity: such a model is not worth another step."""
        loss = logs.get("loss", 0.0)
        if not abs(loss) < float("inf"):
            raise UserError(
                f"the training loss of step {state.global_step} is not a number",
                value=loss,
                why="the weights have overflowed",
                fix="lower the learning rate, lengthen the warm-up, or use precision: fp32",
            )

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Mark the checkpoint that was just written as complete."""
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()


def watch(trainer: Any, advance: Any) -> None:
    """Make `trainer` report to `advance(step, steps)` and print nothing."""
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Watch(advance))
