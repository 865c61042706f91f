"""A model on tasks: which mode answers them, and the report that is made of the answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from strop.evaluation.benchmarks.comparison import Compared, compare
from strop.evaluation.benchmarks.generative import MAX_TOKENS, replies
from strop.evaluation.benchmarks.items import Task
from strop.evaluation.benchmarks.likelihood import Rule, likeliest
from strop.evaluation.benchmarks.predictions import Prediction
from strop.evaluation.benchmarks.scores import TaskScores, score
from strop.evaluation.benchmarks.swaps import Swap, SwapDifference, swap_difference, swapped
from strop.models.asking import Advance
from strop.models.protocol import TextModel
from strop.records.tables import atomic_path, write_table
from strop.runs.store import CallStore

Mode = Literal["generative", "labels", "texts", "texts-per-character"]
MODES: Mapping[Mode, str] = {
    "generative": "replies, read",
    "labels": "log-likelihood of labels",
    "texts": "log-likelihood of option texts",
    "texts-per-character": "log-likelihood of option texts per character",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """How tasks are asked.

    Attributes:
        mode: Replies, or which log-likelihoods.
        max_tokens: Longest reply.
        published: Whether the published scorer is run beside ours on replies.
        swaps: Which descriptions of the patient are exchanged in a second pass.
    """

    mode: Mode = "generative"
    max_tokens: int = MAX_TOKENS
    published: bool = False
    swaps: tuple[Swap, ...] = ()


@dataclass(frozen=True, slots=True)
class Answers:
    """A model's answers to the tasks.

    Attributes:
        model: What to call it.
        revision: Exactly which model it is.
        predictions: By task, one an item.
        swaps: What exchanging the patient's description did.
    """

    model: str
    revision: str
    predictions: Mapping[str, Sequence[Prediction]]
    swaps: tuple[SwapDifference, ...] = ()


@dataclass(frozen=True, slots=True)
class BenchmarkReport:
    """Models on tasks.

    Attributes:
        asked: How.
        tasks: What was asked.
        answers: One a model.
        scores: By model and task.
        comparisons: Each model against each earlier one, by task.
    """

    asked: Asked
    tasks: Sequence[Task]
    answers: Sequence[Answers]
    scores: Mapping[str, Mapping[str, TaskScores]] = field(init=False)
    comparisons: tuple[Compared, ...] = field(init=False)

    def __post_init__(self) -> None:
        labels = {task.name: task.labels for task in self.tasks}
        scores = {
            each.model: {name: score(of, labels[name]) for name, of in each.predictions.items()}
            for each in self.answers
        }
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "comparisons", tuple(_comparisons(self.answers)))

    def to_row(self) -> dict[str, Any]:
        """Return everything but the predictions as JSON."""
        tasks = {
            task.name: {
                "family": task.family,
                "layout": task.layout,
                "items": len(task.items),
                "duplicates": task.duplicates,
                "with_contexts": task.with_contexts,
                "files": list(task.files),
            }
            for task in self.tasks
        }
        models = {
            each.model: {
                "revision": each.revision,
                "tasks": {name: scores.to_row() for name, scores in self.scores[each.model].items()},
                "swaps": [swap.to_row() for swap in each.swaps],
            }
            for each in self.answers
        }
        comparisons = [compared.to_row() for compared in self.comparisons]
        return {"mode": self.asked.mode, "tasks": tasks, "models": models, "comparisons": comparisons}


def answer_tasks(
    tasks: Sequence[Task], model: TextModel, asked: Asked, *, store: CallStore, advance: Advance | None = None
) -> Answers:
    """Let a model answer tasks, and their swapped items where that is asked.

    Args:
        tasks: What to ask.
        model: Who answers.
        asked: How.
        store: Keeps replies.
        advance: Told how many items are answered.
    """
    predictions = {task.name: predict(task, model, asked, store=store, advance=advance) for task in tasks}
    differences = []
    for task in tasks:
        for swap, copy in swapped_tasks(task, asked.swaps):
            after = predict(copy, model, asked, store=store, advance=advance) if copy.items else []
            differences.append(swap_difference(task.name, swap, predictions[task.name], after))
    return Answers(model.name, model.revision, predictions, tuple(differences))


def predict(
    task: Task, model: TextModel, asked: Asked, *, store: CallStore, advance: Advance | None = None
) -> list[Prediction]:
    """Return a model's prediction for every item of a task, in the mode that is asked for."""
    if asked.mode == "generative":
        return replies(
            task, model, store=store, max_tokens=asked.max_tokens, published=asked.published, advance=advance
        )
    rule: Rule = asked.mode
    return likeliest(task, model, rule, advance=advance)


def swapped_tasks(task: Task, swaps: Sequence[Swap]) -> Iterator[tuple[Swap, Task]]:
    """Yield a task's items about other patients; only lettered options have patients to exchange."""
    if task.family != "choice":
        return
    for swap in swaps:
        found = (swapped(item, swap) for item in task.items)
        yield swap, replace(task, items=tuple(item for item in found if item is not None))


def write_files(report: BenchmarkReport, folder: Path, render: Callable[[Any], str]) -> None:
    """Write ``scores.json`` and each model's predictions, one line an item. No file holds a question or a post.

    Args:
        report: What to write.
        folder: Where.
        render: Turns the report into text.
    """
    for each in report.answers:
        for name, predictions in each.predictions.items():
            table = folder / file_name(each.model) / f"{file_name(name)}.jsonl"
            write_table(table, (prediction.to_row() for prediction in predictions))
    with atomic_path(folder / "scores.json") as part:
        part.write_text(render(report.to_row()), encoding="utf-8")


def file_name(name: str) -> str:
    """Return a name as that of a file or a folder."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "unnamed"


def _comparisons(answers: Sequence[Answers]) -> Iterator[Compared]:
    for place, later in enumerate(answers):
        for earlier in answers[:place]:
            for name in later.predictions:
                pair = (later.model, later.predictions[name]), (earlier.model, earlier.predictions[name])
                yield compare(name, *pair)
