"""The recipe on a Ray cluster: two workers answer every stage, and the stages are those of a run without Ray."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from strop.cli.options import load
from strop.cli.run import execute
from strop.models.cluster.ray_cluster import CLUSTER
from strop.runs import CallStore
from strop.runs.content import files_of
from strop.runs.workspace import store_path

TINY = (
    *("seeds=[1]", "data.population=development", "data.train_1=40", "data.train_2=24", "data.test=20"),
    *("weak.train.max_steps=40", "stage_one.train.max_steps=4", "decoding.max_tokens=24"),
    *("demonstrations.count=2", "stage_one.iterations=1", "stage_one.top_up=8"),
    *("stage_two=null", "arms=[icl]", "evaluation={pass_at: [], resamples: 200}"),
)
ON_RAY = ("machine.executor=ray", "machine.replicas=2", "machine.cpus_per_replica=0.5")


@pytest.fixture
def cluster() -> Iterator[None]:
    """One cluster for all stages, which would otherwise each start their own."""
    pytest.importorskip("ray", reason="Ray comes with the extra 'scale'")
    CLUSTER.join("local")
    yield
    CLUSTER.leave()


def run(workspace: Path, *changes: str) -> tuple[dict[str, bytes], int]:
    """Return the bytes of every stage's files, by stage and file, and how many calls the store holds."""
    finished = execute(load("weak_to_strong/demo", [*TINY, *changes]), name="tiny", workspace=workspace, quiet=True)
    stages = finished.run / "stages"
    contents = {path.relative_to(stages).as_posix(): path.read_bytes() for path in files_of(stages)}
    with CallStore(store_path(workspace)) as store:
        return contents, store.sizes().calls


@pytest.mark.slow
def test_stages_on_workers_are_those_of_this_process(cluster: None, tmp_path: Path) -> None:
    here, there = run(tmp_path / "here"), run(tmp_path / "there", *ON_RAY)
    assert here[1] == there[1] > 100
    assert there[0] == here[0]


@pytest.mark.slow
def test_a_run_that_was_begun_here_is_finished_by_workers(cluster: None, tmp_path: Path) -> None:
    """Who computes is no setting of a stage: what is finished is skipped."""
    here = run(tmp_path)
    assert run(tmp_path, *ON_RAY) == here
