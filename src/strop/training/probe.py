"""Log-probabilities and losses of a starting model, computed apart from the trainer: they check what the trainer does.

The losses here are the papers' formulas on Python numbers and small tensors; no gradient is ever taken of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from strop.training.rendering import TokenisedRow

PROBE_BATCH = 8

Scores = list[tuple[float, ...]]
"""Summed log-probability of each response of each row, in nats."""


def response_log_probs(
    model: Any, rows: Sequence[TokenisedRow], *, pad: int, batch: int = PROBE_BATCH, reference: bool = False
) -> Scores:
    """Return the summed log-probability of each response given its prompt.

    Args:
        model: A causal language model; it is put in evaluation mode and back.
        rows: Tokenised rows.
        pad: Id of the padding token, which is masked.
        batch: Sequences in a forward pass.
        reference: Score with adapters switched off: the model that an adapter training started from.
    """
    import torch

    sequences = [(row.prompt_ids, response) for row in rows for response in row.responses]
    training = model.training
    model.eval()
    sums: list[float] = []
    with torch.no_grad(), _without_adapter(model, reference):
        for start in range(0, len(sequences), batch):
            sums += _sums(model, sequences[start : start + batch], pad)
    model.train(training)
    ends = iter(sums)
    return [tuple(next(ends) for _ in row.responses) for row in rows]


def _without_adapter(model: Any, reference: bool) -> Any:
    from contextlib import nullcontext

    return model.disable_adapter() if reference and hasattr(model, "disable_adapter") else nullcontext()


def _sums(model: Any, sequences: Sequence[tuple[list[int], list[int]]], pad: int) -> list[float]:
    import torch

    width = max(len(prompt) + len(response) for prompt, response in sequences)
    ids = torch.full((len(sequences), width), pad)
    mask = torch.zeros((len(sequences), width), dtype=torch.long)
    for place, (prompt, response) in enumerate(sequences):
        length = len(prompt) + len(response)
        ids[place, :length] = torch.tensor(prompt + response)
        mask[place, :length] = 1
    device = model.device
    logits = model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False).logits.float()
    sums = []
    for place, (prompt, response) in enumerate(sequences):
        # The logits at position t score the token at t + 1.
        window = logits[place, len(prompt) - 1 : len(prompt) + len(response) - 1].log_softmax(-1)
        targets = ids[place, len(prompt) : len(prompt) + len(response)].to(device)
        sums.append(window.gather(-1, targets[:, None]).sum().item())
    return sums


def supervised_loss(scores: Scores, rows: Sequence[TokenisedRow]) -> float:
    """Return the negative log-likelihood per response token, over all rows together."""
    tokens = sum(len(response) for row in rows for response in row.responses)
    return -sum(map(sum, scores)) / tokens


def preference_loss(policy: Scores, reference: Scores, *, beta: float) -> tuple[float, float]:
    """Return DPO's loss (arXiv 2305.18290, eq. 7) and the largest absolute margin over the pairs, in nats."""
    margins = [
        (chosen - reference_chosen) - (rejected - reference_rejected)
        for (chosen, rejected), (reference_chosen, reference_rejected) in zip(policy, reference, strict=True)
    ]
    return fmean(softplus(-beta * margin) for margin in margins), max(map(abs, margins))


def odds_ratio_loss(scores: Scores, rows: Sequence[TokenisedRow], *, beta: float) -> float:
    """Return ORPO's loss (arXiv 2403.07691, eq. 6): likelihood of the chosen response plus beta times the odds ratio.

    P(y|x) is the geometric mean of the token probabilities; the likelihood term is averaged over pairs.
    """
    losses = []
    for (chosen_sum, rejected_sum), row in zip(scores, rows, strict=True):
        chosen, rejected = chosen_sum / len(row.responses[0]), rejected_sum / len(row.responses[1])
        log_odds = (chosen - rejected) - (math.log(-math.expm1(chosen)) - math.log(-math.expm1(rejected)))
        losses.append(-chosen + beta * softplus(-log_odds))
    return fmean(losses)


def softplus(value: float) -> float:
    """Return log(1 + exp(value)), which is -log sigmoid(-value)."""
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))
