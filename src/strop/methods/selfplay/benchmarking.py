"""Benchmarks before and after, asked of the base and of what was trained, compared item by item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from strop.evaluation.benchmarks.comparison import compare
from strop.evaluation.benchmarks.generative import replies
from strop.evaluation.benchmarks.items import Task
from strop.evaluation.benchmarks.likelihood import likeliest
from strop.evaluation.benchmarks.predictions import Prediction
from strop.evaluation.benchmarks.readers import read_task
from strop.evaluation.benchmarks.scores import score
from strop.methods.selfplay.config import Examination
from strop.models.placement import Placement, open_placed
from strop.models.spec import ModelSpec
from strop.records.document import Estimate, Number, Table, Verdict
from strop.records.rows import Identifier
from strop.runs import Artifact, Stage
from strop.training.machine import Model, weights_of

SCORES, COMPARED = "scores.json", "compared.json"
Row = Mapping[str, Any]


def tasks_of(examination: Examination) -> Iterator[Task]:
    """Yield the tasks that a run asks."""
    for name, settings in examination.tasks.items():
        yield read_task(name, settings, limit=examination.limit)


def benchmark_texts(examination: Examination) -> list[tuple[Identifier, str]]:
    """Return id and text of every item, so that nothing that is trained on shares its words."""
    return [
        (f"{task.name}/{item.id}", "\n".join((*item.contexts, item.question, *item.options)))
        for task in tasks_of(examination)
        for item in task.items
    ]


def examine(stage: Stage, model: Model, *, settings: Examination, placement: Placement) -> None:
    """Ask a model every item of every task: a table of predictions for each, and `scores.json`."""
    tasks = list(tasks_of(settings))
    opened = open_placed(model if isinstance(model, ModelSpec) else weights_of(model), placement)
    told: dict[str, Any] = {}
    try:
        with stage.progress(f"{stage.name}: items", sum(len(task.items) for task in tasks)) as advance:
            for task in tasks:
                if settings.mode == "likelihood":
                    found = likeliest(task, opened, advance=advance)
                else:
                    found = replies(task, opened, store=stage.store, advance=advance)
                stage.write_rows((one.to_row() for one in found), f"{task.name}.jsonl")
                told[task.name] = score(found, task.labels).to_row()
    finally:
        opened.close()
    stage.write_json({"mode": settings.mode, "tasks": told}, SCORES)


def compare_models(stage: Stage, examined: Mapping[str, Artifact], *, base: str) -> None:
    """Compare every model with the base, task by task and item by item (exact McNemar): `compared.json`."""
    scores = {name: one.json(SCORES) for name, one in examined.items()}
    mode, tasks = scores[base]["mode"], list(scores[base]["tasks"])
    pairs = [
        compare(
            task,
            (name, _predictions(examined[name], task)),
            (base, _predictions(examined[base], task)),
        )
        for task in tasks
        for name in examined
        if name != base
    ]
    told = [{**pair.to_row(), "finding": pair.finding()} for pair in pairs]
    by_task = {task: {name: scores[name]["tasks"][task] for name in examined} for task in tasks}
    stage.write_json({"mode": mode, "base": base, "scores": by_task, "compared": told}, COMPARED)


def _predictions(examined: Artifact, task: str) -> list[Prediction]:
    return [
        Prediction(row["id"], row.get("part", ""), row["gold"], row["label"], row["status"])
        for row in examined.rows(f"{task}.jsonl")
    ]


def benchmark_verdicts(compared: Artifact | None) -> Iterator[Verdict]:
    """Yield one verdict for each comparison with the base."""
    for one in _told(compared).get("compared", ()):
        result = one["result"]
        tone: Literal["good", "bad", "unclear"] = "unclear"
        if result is not None and not result["difference"]["low"] <= 0 <= result["difference"]["high"]:
            tone = "good" if result["difference"]["estimate"] > 0 else "bad"
        yield Verdict(f"{one['finding']}.", tone)


def benchmark_numbers(compared: Artifact | None) -> Iterator[Number]:
    """Yield the accuracy of every model on every task."""
    if compared is None:
        return
    for task, models in _told(compared)["scores"].items():
        for name, scores in models.items():
            accuracy = scores["accuracy"]
            yield Number(
                f"{task}.{name}",
                None if accuracy is None else accuracy["estimate"],
                compared.name,
                COMPARED,
                low=None if accuracy is None else accuracy["low"],
                high=None if accuracy is None else accuracy["high"],
                n=None if accuracy is None else accuracy["n"],
                label=f"{task}: accuracy of {name}",
                note="Wilson's interval" if accuracy is not None else "no item got a reply",
            )


def benchmark_tables(compared: Artifact | None) -> Iterator[Table]:
    """Yield the table of accuracies beside what constant answers get."""
    content = _told(compared)
    if not content:
        return
    rows = tuple(
        (
            task,
            name,
            _estimate(scores["accuracy"]),
            Estimate(scores["constants"][scores["majority"]], n=scores["items"]) if scores["majority"] else None,
            scores["majority"],
            Estimate(scores["macro_f1"], unit="ratio"),
            Estimate(scores["unparsed"]),
            Estimate(scores["empty"]),
            scores["one_label"] or "",
        )
        for task, models in content["scores"].items()
        for name, scores in models.items()
    )
    columns = ("task", "model", "accuracy", "best constant", "label", "macro-F1", "unparsed", "empty", "one label")
    notes = (
        f"Answers by {content['mode']}. Beside every accuracy stands what always giving one answer gets.",
        "One label: the label of more than 95 % of the answers; such a model does not tell the items apart.",
    )
    yield Table("Benchmarks, which chose nothing", columns, rows, notes)


def _estimate(row: Row | None) -> Estimate:
    return Estimate(None) if row is None else Estimate(row["estimate"], row["low"], row["high"], row["n"])


def _told(compared: Artifact | None) -> Any:
    return {} if compared is None else compared.json(COMPARED)
