"""Benchmarks of the trained models, by lm-evaluation-harness, which downloads its tasks."""

from __future__ import annotations

from strop.errors import UserError
from strop.methods.mixture_of_heads.config import Examination
from strop.models.placement import Placement
from strop.runs import Artifact, Stage

SCORES = "scores.json"


def examine(stage: Stage, model: Artifact, *, settings: Examination, placement: Placement) -> None:
    """Ask a trained model the tasks, each with its number of shots: `scores.json`, the harness's own figures.

    Raises:
        UserError: The harness is not installed.
    """
    require_harness()
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    import strop.heads  # noqa: F401  # makes transformers know models with routed heads

    device = "cpu" if placement.device == "cpu" else "cuda" if placement.device == "auto" else placement.device
    asked = HFLM(pretrained=str(model.path("model")), device=device, trust_remote_code=False)
    scores = {}
    for task, shots in settings.tasks.items():
        told = lm_eval.simple_evaluate(model=asked, tasks=[task], num_fewshot=shots, limit=settings.limit)
        scores[task] = {
            "shots": shots,
            **{key: value for key, value in told["results"][task].items() if key != "alias"},
        }
    stage.write_json(scores, SCORES)


def require_harness() -> None:
    """Make sure that the harness is there.

    Raises:
        UserError: It is not.
    """
    from importlib.util import find_spec

    if find_spec("lm_eval") is None:
        raise UserError(
            "'examination.tasks' needs lm-evaluation-harness",
            value="lm_eval is not installed",
            fix="pip install lm-eval, or leave the tasks out",
        )
