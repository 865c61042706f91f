"""Benchmarks of a trained model, asked by the harness itself, with tasks from a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.evaluation.benchmarks.made import MMLU, committed

from strop.errors import UserError
from strop.evaluation.benchmarks.harness import write_harness
from strop.methods.mixture_of_heads.config import Examination, MixtureOfHeadsConfig
from strop.methods.mixture_of_heads.examining import SCORES
from strop.methods.mixture_of_heads.recipe import mixture_of_heads
from strop.runs import Run

Configure = Callable[..., MixtureOfHeadsConfig]


def test_every_arm_is_asked_by_the_harness(configure: Configure, tmp_path: Path) -> None:
    """The committed rows of MMLU, whose tasks are read from a folder: nothing is downloaded."""
    pytest.importorskip("lm_eval")
    [name] = write_harness([committed("mmlu", *MMLU)], tmp_path / "tasks")
    config = configure(
        heads={"four_of_six": {"active": "4/6", "choice": "free"}},
        from_scratch=None,
        first_choices=False,
        seeds=[1],
        train__max_steps=1,
        examination=Examination(tasks={name: 1}, include=tmp_path / "tasks", limit=3),
    )
    with Run.open(tmp_path / "run", config=config, origins={}, seed=0, workspace=tmp_path, quiet=True) as run:
        mixture_of_heads(config, run)
    asked = [made for made in run.artifacts if made.endswith("-benchmarks")]
    assert len(asked) == 3, "dense control, static pruning, MoH"
    for made in asked:
        scores = run.artifacts[made].json(SCORES)
        assert scores[name]["shots"] == 1
        assert 0 <= scores[name]["acc,none"] <= 1


def test_an_unknown_task_is_named_before_anything_is_asked(tmp_path: Path) -> None:
    from strop.evaluation.benchmarks.forgetting import harness_tasks

    pytest.importorskip("lm_eval")
    [name] = write_harness([committed("mmlu", *MMLU)], tmp_path)
    assert harness_tasks([name], include=tmp_path) is not None
    with pytest.raises(UserError, match="no such task"):
        harness_tasks([name, "no_task_of_this_name"], include=tmp_path)
