"""Benchmarks by log-likelihood: the label, or the option's text, that a local model finds likeliest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from strop.errors import UserError
from strop.evaluation.benchmarks.items import Item, Task
from strop.evaluation.benchmarks.predictions import Prediction, answered, failed
from strop.evaluation.benchmarks.prompts import Scored, continued_prompt
from strop.models.asking import Advance
from strop.models.continuations import continuation_log_probs
from strop.models.local import LocalModel
from strop.models.protocol import TextModel

Rule = Literal["labels", "texts", "texts-per-character"]
"""What is compared: the labels; the texts of the options; the texts, each divided by its length in characters.

They are lm-evaluation-harness's ``acc`` on letters, ``acc`` on texts, and ``acc_norm`` on texts.
"""


def likeliest(
    task: Task, model: TextModel, rule: Rule = "labels", *, advance: Advance | None = None
) -> list[Prediction]:
    """Answer every item with what the model finds likeliest.

    Args:
        task: What to ask.
        model: A local model: servers do not tell the log-probabilities of given texts.
        rule: What is compared.
        advance: Told how many items are done.

    Returns:
        The predictions; an item whose prompt does not fit into the model's context has failed.

    Raises:
        UserError: The model has no weights on this machine.
    """
    if not isinstance(model, LocalModel):
        raise UserError(
            "log-likelihood needs a model with weights on this machine",
            value=model.name,
            fix="use --mode generative, or give a folder, hf:ORG/NAME or a builtin",
        )
    scored: Scored = "labels" if rule == "labels" else "texts"
    prompts = [continued_prompt(task, item, scored=scored) for item in task.items]
    answers = [item.labels if scored == "labels" else item.options for item in task.items]
    found = continuation_log_probs(model, prompts, answers, advance=advance)
    return [
        failed(item, "context") if log_probs is None else _prediction(item, log_probs, rule)
        for item, log_probs in zip(task.items, found, strict=True)
    ]


def _prediction(item: Item, log_probs: Sequence[float], rule: Rule) -> Prediction:
    per = [len(option) if rule == "texts-per-character" else 1 for option in item.options]
    worth = [log_prob / length for log_prob, length in zip(log_probs, per, strict=True)]
    label = item.labels[max(range(len(worth)), key=worth.__getitem__)]
    return answered(item, label, log_probs=tuple(log_probs))
