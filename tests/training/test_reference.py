"""Reference log-probabilities are computed once, found again by exact key, and doubted when they are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from strop.training import TrainingJob, train
from strop.training import reference as module

JobMaker = Callable[..., TrainingJob]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of pairs of each computation."""
    counts: list[int] = []
    compute = module._compute

    def counting(trainer: Any, pairs: Any, batch_size: int) -> dict[str, list[float]]:
        counts.append(len(pairs))
        return compute(trainer, pairs, batch_size)

    monkeypatch.setattr(module, "_compute", counting)
    return counts


def test_computed_once(make_job: JobMaker, computed: list[int]) -> None:
    """All 32 pairs once; the second time 16 of them, to be sure."""
    first, second = train(make_job("dpo")), train(make_job("dpo"))
    assert computed == [32, 16]
    assert first.losses == second.losses


@pytest.mark.parametrize("changes", [{"micro_batch_size": 4}, {"max_length": 12, "too_long_ceiling": 1.0}])
def test_another_key_computes_again(make_job: JobMaker, computed: list[int], changes: dict[str, Any]) -> None:
    train(make_job("dpo"))
    train(make_job("dpo", **changes))
    assert len(computed) == 2
    assert 16 not in computed


def test_a_cache_that_lies_is_not_used(make_job: JobMaker, computed: list[int]) -> None:
    """Same key, other values: the spot check finds it."""
    job = make_job("dpo")
    honest = train(job)
    file = job.work / "reference.safetensors"
    from safetensors import safe_open

    with safe_open(file, framework="np") as stored:
        metadata = stored.metadata()
    save_file({name: values + 1.0 for name, values in load_file(file).items()}, file, metadata=metadata)
    assert train(job).losses == honest.losses
    assert computed == [32, 16, 32]


def test_a_broken_cache_is_not_used(make_job: JobMaker, computed: list[int]) -> None:
    job = make_job("dpo")
    train(job)
    (job.work / "reference.safetensors").write_bytes(b"half a file")
    train(job)
    assert computed == [32, 32]
