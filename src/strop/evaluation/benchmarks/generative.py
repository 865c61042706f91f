"""Benchmarks by reply: every call is stored before it is read, so a stopped evaluation goes on where it was."""

from __future__ import annotations

from strop.evaluation.benchmarks.imhi import read_reply
from strop.evaluation.benchmarks.items import Item, Task
from strop.evaluation.benchmarks.parsing import read_choice, read_verdict
from strop.evaluation.benchmarks.predictions import Prediction, Status, answered, failed
from strop.evaluation.benchmarks.prompts import continued_prompt, reply_prompt
from strop.evaluation.benchmarks.published import published_correct
from strop.models.asking import Advance, ask_each
from strop.models.protocol import Sampling, TextModel
from strop.records.rows import Prompt
from strop.runs.calls import FailedCall
from strop.runs.store import CallStore

MAX_TOKENS = 256
"""Longest reply; the published evaluation's."""
NEXT_QUESTION = "\nQuestion:"
"""Where a model without a chat template ends its answer and goes on with a question of its own."""


def replies(
    task: Task,
    model: TextModel,
    *,
    store: CallStore,
    max_tokens: int = MAX_TOKENS,
    published: bool = False,
    advance: Advance | None = None,
) -> list[Prediction]:
    """Ask a model every item, greedily, and read its replies.

    Args:
        task: What to ask.
        model: Who replies. A local model without a chat template continues the plain prompt that ends in ``Answer:``.
        store: Keeps every reply.
        max_tokens: Longest reply in tokens.
        published: Whether to note what the published scorer makes of each reply.
        advance: Told how many replies have come.

    Raises:
        Stopped: See `ask_each`.
    """
    chat = converses(model)
    prompts: list[Prompt] = [reply_prompt(task, i) if chat else continued_prompt(task, i) for i in task.items]
    sampling = Sampling(max_tokens=max_tokens, stop=() if chat else (NEXT_QUESTION,))
    found = []
    outcomes = ask_each(model, prompts, sampling, store=store, advance=advance)
    for item, (outcome,) in zip(task.items, outcomes, strict=True):
        if isinstance(outcome, FailedCall):
            found.append(failed(item, outcome.kind))
        else:
            found.append(read_reply_to(task, item, outcome.text, published=published))
    return found


def converses(model: TextModel) -> bool:
    """Say whether a model takes conversations: it is served, or its tokenizer has a chat template."""
    tokenizer = getattr(model, "tokenizer", None)
    return tokenizer is None or bool(getattr(tokenizer, "chat_template", None))


def read_reply_to(task: Task, item: Item, reply: str, *, published: bool = False) -> Prediction:
    """Return the prediction that a reply makes; an empty reply is wrong, and so is one that cannot be read.

    Args:
        task: Decides how replies are read.
        item: What was asked.
        reply: What the model said.
        published: Whether to note what the published scorer makes of it.
    """
    verdict = published_correct(reply, task, item) if published else None
    label = label_in(task, item, reply)
    if label is not None:
        return answered(item, label, reply=reply, published=verdict)
    status: Status = "unparsed" if reply.strip() else "empty"
    return Prediction(item.id, item.part, item.gold, None, status, reply=reply, published=verdict)


def label_in(task: Task, item: Item, reply: str) -> str | None:
    """Return the label that a reply states; None where it states none."""
    if task.family == "choice":
        return read_choice(reply, item.texts())
    if task.family == "verdict":
        return read_verdict(reply, item.labels)
    return read_reply(reply, task.family)
