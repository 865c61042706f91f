"""How each family asks: one prompt to continue, shared with lm-evaluation-harness, and one to reply to.

The prompts to continue are the Jinja templates of ``data/benchmarks/*.yaml``, which are lm-evaluation-harness tasks:
their wording has one place. The prompts to reply to are ours.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from strop.evaluation.benchmarks.items import Item, Task
from strop.records.rows import Message
from strop.runs.shipped import DATA
from strop.runs.yaml_files import read_yaml

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATES = DATA / "benchmarks"

Scored = Literal["labels", "texts"]
"""What log-likelihood is taken of: the labels (letters; yes, no, ...), or the full texts of the options."""

CHOICE = """\
{question}

{options}

Which option is correct? Reply with its letter only."""
VERDICT = """\
{contexts}{question}

Reply with one word only: yes, no or maybe."""
CAUSE = """\
Here is a post between two marks.
<post>
{post}
</post>
{question} Reply with one of these only: {labels}."""
YES_OR_NO = """\
Here is a post between two marks.
<post>
{post}
</post>
{question} Reply with one word only: yes or no."""


def template_name(task: Task, scored: Scored = "labels") -> str:
    """Return which of the shipped templates a task is asked by."""
    if task.family == "choice" and scored == "texts":
        return "choice_texts"
    return "verdict_contexts" if task.family == "verdict" and task.with_contexts else task.family


def template_file(name: str) -> Path:
    """Return where a shipped template lies."""
    return TEMPLATES / f"{name}.yaml"


def item_row(item: Item) -> dict[str, Any]:
    """Return an item as the templates, and the rows of a harness task, see it."""
    return {
        "id": item.id,
        "question": item.question,
        "contexts": list(item.contexts),
        "labels": list(item.labels),
        "options": list(item.options),
        "target": item.target,
    }


def continued_prompt(task: Task, item: Item, *, scored: Scored = "labels") -> str:
    """Return the text whose continuation is scored; it ends with ``Answer:``."""
    return _template(template_name(task, scored)).render(**item_row(item))


def reply_prompt(task: Task, item: Item) -> tuple[Message, ...]:
    """Return the conversation that a model replies to: one message of the user, which every chat template takes."""
    match task.family:
        case "choice":
            options = "\n".join(f"{label}. {text}" for label, text in item.texts().items())
            text = CHOICE.format(question=item.question, options=options)
        case "verdict":
            shown = "\n".join(item.contexts) + "\n\n" if task.with_contexts else ""
            text = VERDICT.format(contexts=shown, question=item.question)
        case "cams":
            text = CAUSE.format(post=item.contexts[0], question=item.question, labels=", ".join(item.labels))
        case _:
            text = YES_OR_NO.format(post=item.contexts[0], question=item.question)
    return (Message("user", text),)


@cache
def _template(name: str) -> Template:
    from jinja2 import BaseLoader, Environment, StrictUndefined

    # The settings of lm-evaluation-harness, so that both write the same text.
    environment = Environment(loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(str(read_yaml(template_file(name)).values["doc_to_text"]))
