"""What a training has cost elsewhere: tasks of lm-evaluation-harness before and after it, item by item.

The harness is asked through its own library, where it is installed, so that its numbers are its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from strop.errors import UserError
from strop.evaluation.benchmarks.predictions import Prediction

INSTALL = 'pip install "lm-eval>=0.4.13"'
METRICS = ("acc", "exact_match", "acc_norm")
"""Metrics that make an item right or wrong; a task's first of these counts."""


def harness_outcomes(
    model: Path,
    tasks: Sequence[str],
    *,
    include: Path | None = None,
    limit: int | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int = 16,
) -> dict[str, list[Prediction]]:
    """Run tasks of lm-evaluation-harness and return which items were right.

    Args:
        model: A model folder.
        tasks: Names of its tasks; a group gives each of its tasks.
        include: A folder of further tasks, such as `write_harness` makes.
        limit: Only so many items of each task.
        device: Where the model runs.
        dtype: Of its weights.
        batch_size: Most rows at a time.

    Returns:
        By task, one prediction an item: the label is ``right`` or ``wrong``, the gold label ``right``.

    Raises:
        UserError: The harness is not installed, has no such task, or a task has no metric that is right or wrong.
    """
    manager = harness_tasks(tasks, include=include)
    from lm_eval import simple_evaluate

    arguments = {"pretrained": str(model), "dtype": dtype, "trust_remote_code": False}
    found = simple_evaluate(
        model="hf",
        model_args=arguments,
        tasks=list(tasks),
        task_manager=manager,
        limit=limit,
        device=device,
        batch_size=batch_size,
        bootstrap_iters=0,
        log_samples=True,
    )
    assert found is not None  # only workers of rank above 0 get nothing
    return {name: _outcomes(name, samples) for name, samples in found["samples"].items()}


def harness_tasks(tasks: Sequence[str], *, include: Path | None = None) -> Any:
    """Return the harness's own list of tasks, in which these are.

    Args:
        tasks: Names of its tasks.
        include: A folder of further tasks.

    Raises:
        UserError: The harness is not installed or has no such task.
    """
    require_harness()
    from lm_eval.tasks import TaskManager

    # Reading the harness's own thousands of tasks takes a while: only where they are wanted.
    manager = None if include is None else TaskManager(include_path=str(include), include_defaults=False)
    if manager is None or not set(tasks) <= set(manager.all_tasks):
        manager = TaskManager(include_path=None if include is None else str(include))
    unknown = [task for task in tasks if task not in manager.all_tasks]
    if unknown:
        raise UserError("lm-evaluation-harness has no such task", value=unknown, fix="lm-eval ls tasks lists them")
    return manager


def require_harness() -> None:
    """Make sure that the harness is there.

    Raises:
        UserError: It is not.
    """
    if find_spec("lm_eval") is None:
        raise UserError("lm-evaluation-harness is not installed", value="lm_eval", fix=INSTALL)


def _outcomes(name: str, samples: Sequence[dict[str, Any]]) -> list[Prediction]:
    metric = next((metric for metric in METRICS if samples and metric in samples[0]), None)
    if metric is None:
        known = sorted(samples[0]["metrics"]) if samples else []
        raise UserError(f"task {name!r} says of no item that it is right or wrong", value=known, alternatives=METRICS)
    # Some tasks read each reply in several ways, their filters: the first counts.
    counted = [one for one in samples if one.get("filter") == samples[0].get("filter")]
    return [
        Prediction(one["doc_id"], "", "right", "right" if one[metric] else "wrong", "answered")
        for one in sorted(counted, key=lambda one: int(one["doc_id"]))
    ]
