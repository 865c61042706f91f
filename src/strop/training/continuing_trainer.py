"""The trainer for plain text: likelihood, a dense teacher's predictions, and the load balance of routed heads.

This module loads torch and transformers: import it inside functions only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, nll_loss
from transformers import Trainer

from strop.training.continuing import ROUTER, Look
from strop.training.settings import ContinueSettings
from strop.training.trainers import Contained

TERMS = ("likelihood", "divergence", "balance")


def stacked(rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Return blocks of equal length as one batch."""
    return {"input_ids": torch.tensor([row["input_ids"] for row in rows])}


def divergence(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Return T^2 KL(teacher || student) of softened predictions, the mean over tokens (Hinton et al., 2015).

    Args:
        student: Logits (..., vocabulary).
        teacher: Logits of the same shape.
        temperature: T; the square keeps the size of the gradient.
    """
    learned, taught = (log_softmax(logits.float() / temperature, -1) for logits in (student, teacher))
    return temperature**2 * kl_div(learned, taught, reduction="none", log_target=True).sum(-1).mean()


class ContinueTrainer(Contained, Trainer):  # type: ignore[misc]
    """Mean negative log-likelihood of all tokens of a batch but each block's first, and the terms of the settings.

    Every block of a step has the same weight, however the step is cut into micro-batches. The load balance of routed
    heads is the mean of the micro-batches' own values, as in the released code: P and f of one micro-batch belong
    together, so other cuts of the same batch give a slightly different term.
    """

    def __init__(self, *, settings: ContinueSettings, teacher: Any | None, look: Look | None, **arguments: Any) -> None:
        self._settings, self._teacher, self._look = settings, teacher, look
        self._shares: Iterator[float] = iter(())
        self._terms: dict[str, Any] = {}
        super().__init__(data_collator=stacked, **arguments)
        # The loss is weighed here: transformers must neither count tokens nor leave out its division.
        self.model_accepts_loss_kwargs = False
        if teacher is not None:
            teacher.to(self.accelerator.device)

    def get_batch_samples(self, *arguments: Any) -> tuple[list[Any], Any]:
        """Return the micro-batches of a step, and note which share of its blocks each holds."""
        batches, items = super().get_batch_samples(*arguments)
        blocks = [len(batch["input_ids"]) for batch in batches]
        self._shares = iter([count / sum(blocks) for count in blocks])
        return batches, items

    def compute_loss(self, model: Any, inputs: Mapping[str, Tensor], *_: Any, **__: Any) -> Tensor:
        """Return a micro-batch's loss with the weight of its blocks."""
        share, ids = next(self._shares), inputs["input_ids"]
        routed = getattr(self.accelerator.unwrap_model(model), "moh_balance", None)
        if routed is not None:
            # The term enters the backward pass by itself, where nothing divides it: its weight is the whole share.
            routed.coefficient = self._settings.balance * share
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        terms = {"likelihood": nll_loss(log_softmax(logits, -1).flatten(0, 1), ids[:, 1:].flatten())}
        loss: Tensor = terms["likelihood"]
        if self._teacher is not None and self._settings.distillation is not None:
            weight, temperature = self._settings.distillation.weight, self._settings.distillation.temperature
            with torch.no_grad():
                taught = self._teacher(input_ids=ids, use_cache=False).logits[:, :-1]
            terms["divergence"] = divergence(logits, taught, temperature=temperature)
            loss = (1 - weight) * loss + weight * terms["divergence"]
        if routed is not None and routed.values:
            terms["balance"] = torch.stack([torch.as_tensor(value).detach() for value in routed.values.values()]).mean()
        for name, value in terms.items():
            self._terms[name] = self._terms.get(name, 0.0) + value.detach() * share
        return loss * (share * int(self.current_gradient_accumulation_steps))

    def log(self, logs: dict[str, float], *arguments: Any, **named: Any) -> None:
        """Add the terms of the step, and the look at held-back text where one is due, to what is logged."""
        if "loss" in logs and self._terms:
            values = torch.stack([torch.as_tensor(self._terms[name]) for name in TERMS if name in self._terms])
            means = self.accelerator.reduce(values, reduction="mean")
            logs |= dict(zip([name for name in TERMS if name in self._terms], means.tolist(), strict=True))
            self._terms = {}
            if self._look is not None and self._look.due(self.state.global_step, self.state.max_steps):
                logs["held_back"] = self._look.loss(self.accelerator.unwrap_model(self.model))
        super().log(logs, *arguments, **named)

    def create_optimizer(self, *arguments: Any, **named: Any) -> Any:
        """Give routers their own learning rate."""
        made = super().create_optimizer(*arguments, **named)
        if self._settings.router_rate == 1.0 or any(group.get("router") for group in made.param_groups):
            return made
        routers = {id(weight) for name, weight in self.model.named_parameters() if ROUTER in name}
        for group in list(made.param_groups):
            own = [weight for weight in group["params"] if id(weight) in routers]
            if own:
                group["params"] = [weight for weight in group["params"] if id(weight) not in routers]
                rate = group["lr"] * self._settings.router_rate
                made.add_param_group({**group, "params": own, "lr": rate, "router": True})
        return made
