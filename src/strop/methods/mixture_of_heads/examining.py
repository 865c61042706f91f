"""Benchmarks of the trained models, by lm-evaluation-harness, which downloads its own tasks."""

from __future__ import annotations

from strop.evaluation.benchmarks.forgetting import harness_tasks
from strop.methods.mixture_of_heads.config import Examination
from strop.models.placement import Placement
from strop.runs import Artifact, Stage

SCORES = "scores.json"


def examine(stage: Stage, model: Artifact, *, settings: Examination, placement: Placement) -> None:
    """Ask a trained model the tasks, each with its number of shots: `scores.json`, the harness's own figures.

    Raises:
        UserError: The harness is not installed, or has no such task.
    """
    manager = harness_tasks(list(settings.tasks), include=settings.include)
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    import strop.heads  # noqa: F401  # makes transformers know models with routed heads

    device = "cpu" if placement.device == "cpu" else "cuda" if placement.device == "auto" else placement.device
    asked = HFLM(pretrained=str(model.path("model")), device=device, trust_remote_code=False)
    scores = {}
    for task, shots in settings.tasks.items():
        told = lm_eval.simple_evaluate(
            model=asked, tasks=[task], task_manager=manager, num_fewshot=shots, limit=settings.limit
        )
        scores[task] = {
            "shots": shots,
            **{key: value for key, value in told["results"][task].items() if key != "alias"},
        }
    stage.write_json(scores, SCORES)
