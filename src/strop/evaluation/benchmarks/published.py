"""The scorer of MentalArena's released evaluation, kept for checks of published numbers and for nothing else.

It calls an empty answer right in MedQA, MMLU and MedMCQA, as an empty string is inside every string. In MedMCQA any
reply without a full stop is right that holds the right capital letter anywhere. In PubMedQA "not" and "know" hold "no".
"""

from __future__ import annotations

from strop.evaluation.benchmarks.items import Item, Task


def published_correct(reply: str, task: Task, item: Item) -> bool | None:
    """Say what the released scorer (``MedQA_eval.py``) makes of a reply; None for IMHI, which it does not score.

    Args:
        reply: The model's reply.
        task: Decides which of its rules applies.
        item: What was asked.
    """
    output = reply.strip()
    if task.family == "choice":
        if "." in output or len(output) == 1:
            return output[0] == item.gold
        target = item.gold if task.layout == "medmcqa" else item.options[item.target]
        return output in target or target in output
    if task.family == "verdict":
        said = output.partition("explanation.")[2].strip() if "explanation." in output else output
        both = "yes" in said.lower() and "no" in said.lower()
        return item.gold in said.lower() and not both
    return None
