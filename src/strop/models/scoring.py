"""Log-probabilities of given completions: what DPO compares, and what a judge's expectations are made of.

Shape legend: B examples of a batch, L tokens with padding, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strop.errors import UserError
from strop.models.local import LocalModel
from strop.models.render import encode_examples
from strop.records.rows import Prompt

LOGITS_BYTES = 1 << 28
"""Memory that the float32 logits of one batch may take."""


@dataclass(frozen=True, slots=True)
class TokenScores:
    """One completion under a model.

    Attributes:
        tokens: Its token ids, the end of turn among them.
        log_probs: The natural logarithm of each token's probability given all before it; at most 0.
    """

    tokens: tuple[int, ...]
    log_probs: tuple[float, ...]

    @property
    def total(self) -> float:
        """The completion's log-probability: the sum over its tokens."""
        return sum(self.log_probs)

    @property
    def mean(self) -> float:
        """The log-probability per token."""
        return self.total / len(self.log_probs)


def completion_log_probs(
    model: LocalModel | Path,
    prompts: Sequence[Prompt],
    completions: Sequence[str],
    *,
    batch_size: int = 64,
    padding_side: str = "right",
) -> list[TokenScores]:
    """Score each completion as the response to its prompt, rendered as in training.

    Args:
        model: A loaded model or its folder.
        prompts: What comes before, one for each completion.
        completions: The responses; each is followed by the end of turn, which is scored too.
        batch_size: Most examples at a time; it changes no score by more than rounding.
        padding_side: ``right`` or ``left``; neither does this.

    Returns:
        Scores in the order of the inputs. The softmax is computed in float32 whatever the model's dtype.

    Raises:
        UserError: An example is longer than the model's context; nothing is cut.
    """
    if isinstance(model, Path):
        model = LocalModel(model)
    turns = list(zip(prompts, completions, strict=True))
    examples = encode_examples(model.tokenizer, turns, chat=model.chat)
    order = sorted(range(len(examples)), key=lambda index: -sum(map(len, examples[index])))
    if order:
        _check_length(sum(map(len, examples[order[0]])), model.context)
    scores: dict[int, TokenScores] = {}
    start = 0
    while start < len(order):
        longest = sum(map(len, examples[order[start]]))
        fitting = LOGITS_BYTES // (4 * longest * model.model.config.vocab_size)
        batch = order[start : start + max(1, min(batch_size, fitting))]
        scored = _score_batch(model, [examples[index] for index in batch], padding_side)
        scores.update(zip(batch, scored, strict=True))
        start += len(batch)
    return [scores[index] for index in range(len(examples))]


def _check_length(longest: int, context: int) -> None:
    if longest > context:
        raise UserError(
            f"an example of {longest} tokens for a model that takes {context}",
            fix="leave out the long examples, or use a model with a longer context",
        )


def _score_batch(
    model: LocalModel, examples: Sequence[tuple[list[int], list[int]]], padding_side: str
) -> list[TokenScores]:
    import torch

    longest = max(len(prompt) + len(completion) for prompt, completion in examples)
    left = padding_side == "left"
    rows: list[dict[str, list[int]]] = []
    for prompt, completion in examples:
        ids = prompt + completion
        padding = [0] * (longest - len(ids))
        row = {"ids": ids, "mask": [1] * len(ids), "positions": list(range(len(ids)))}
        rows.append({key: padding + value if left else value + padding for key, value in row.items()})
    tensors: dict[str, Any] = {
        key: torch.tensor([row[key] for row in rows], device=model.model.device) for key in rows[0]
    }
    with torch.inference_mode():
        logits_blv = model.model(
            input_ids=tensors["ids"],
            attention_mask=tensors["mask"],
            position_ids=tensors["positions"],
            use_cache=False,
        ).logits
        # The token at place l is predicted at place l - 1.
        log_probs_bl = -torch.nn.functional.cross_entropy(
            logits_blv[:, :-1].float().transpose(1, 2), tensors["ids"][:, 1:], reduction="none"
        ).cpu()
    scored: list[TokenScores] = []
    for slot, (prompt, completion) in enumerate(examples):
        end = longest if left else len(prompt) + len(completion)
        part = log_probs_bl[slot, end - 1 - len(completion) : end - 1]
        scored.append(TokenScores(tuple(completion), tuple(part.tolist())))
    return scored
