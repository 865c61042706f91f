"""Settings that must not change what is learned: batches cut up, padded, spread over processes, or interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import pytest

from strop.training import Launcher, TrainingJob, TrainingOutcome, train
from strop.training.probe import response_log_probs, supervised_loss
from strop.training.rendering import tokenise
from strop.training.running import read_rows
from strop.training.weights import load_start, load_tokenizer

JobMaker = Callable[..., TrainingJob]

MAX_RESIDUAL, MEAN_RESIDUAL = 2e-5, 5e-6
"""Bounds on the difference of two loss curves in nats; the mean is signed, so that a drift shows beside the noise."""


def assert_same_curve(one: TrainingOutcome, other: TrainingOutcome) -> None:
    residuals = [a - b for a, b in zip(one.losses, other.losses, strict=True)]
    assert max(map(abs, residuals)) < MAX_RESIDUAL
    assert abs(fmean(residuals)) < MEAN_RESIDUAL
    assert one.losses[0] != one.losses[-1]


@pytest.mark.parametrize("kind", ["sft", "dpo", "orpo"])
def test_accumulated_equals_batched(make_job: JobMaker, kind: str) -> None:
    """Eight rows at once, and two at a time four times over, take the same steps."""
    batched = train(make_job(kind, "batched", micro_batch_size=8))
    accumulated = train(make_job(kind, "accumulated", micro_batch_size=2))
    assert_same_curve(batched, accumulated)


def test_accumulation_is_unequal_under_trl_definition_of_orpo(make_job: JobMaker) -> None:
    """Why the likelihood term is ours: averaged over the tokens of a micro-batch, the loss depends on the cut."""
    batched = train(make_job("orpo", "batched", micro_batch_size=8, nll_over="sequence"))
    accumulated = train(make_job("orpo", "accumulated", micro_batch_size=2, nll_over="sequence"))
    assert max(abs(a - b) for a, b in zip(batched.losses, accumulated.losses, strict=True)) > MAX_RESIDUAL


def test_the_epochs_end_is_part_of_it(make_job: JobMaker) -> None:
    """64 rows in batches of 24: the last batch of an epoch holds 16, in micro-batches of 3 it is even ragged."""
    batched = train(make_job("sft", "batched", epochs=2, batch_size=24, micro_batch_size=24))
    accumulated = train(make_job("sft", "accumulated", epochs=2, batch_size=24, micro_batch_size=3))
    assert batched.steps == 6
    assert_same_curve(batched, accumulated)


@pytest.mark.parametrize("kind", ["dpo", "orpo"])
def test_ragged_micro_batches_of_pairs(make_job: JobMaker, kind: str) -> None:
    """32 pairs in batches of 20: the last batch of an epoch holds 12, in micro-batches of 5 the last has 2 pairs."""
    batched = train(make_job(kind, "batched", epochs=2, batch_size=20, micro_batch_size=20))
    accumulated = train(make_job(kind, "accumulated", epochs=2, batch_size=20, micro_batch_size=5))
    assert batched.steps == 4
    assert_same_curve(batched, accumulated)


def test_padded_equals_unpadded(make_job: JobMaker) -> None:
    """The loss of a padded batch of all rows is the token-weighted mean of the losses of single rows."""
    job = make_job("sft", batch_size=64, micro_batch_size=64, max_steps=1)
    outcome = train(job)
    tokenizer = load_tokenizer(job.model)
    rows = tokenise(tokenizer, read_rows(job.rows, "sft"), job.settings).rows
    assert len({row.length for row in rows}) > 5
    singles = response_log_probs(load_start(job.model, job.settings), rows, pad=tokenizer.pad_token_id, batch=1)
    assert outcome.losses[0] == pytest.approx(supervised_loss(singles, rows), abs=MAX_RESIDUAL)


def test_two_processes_equal_one(make_job: JobMaker) -> None:
    """Two gloo processes of four rows each take the steps of one process of eight."""
    single = train(make_job("sft", "single", micro_batch_size=8), launcher=Launcher(mode="inline"))
    seen: list[tuple[int, int]] = []
    double = train(
        make_job("sft", "double", micro_batch_size=4),
        launcher=Launcher(processes=2),
        advance=lambda done, steps: seen.append((done, steps)),
    )
    assert_same_curve(single, double)
    assert seen[-1] == (6, 6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dpo", "orpo"])
def test_two_processes_equal_one_on_pairs(make_job: JobMaker, kind: str) -> None:
    single = train(make_job(kind, "single", micro_batch_size=8), launcher=Launcher(mode="inline"))
    double = train(make_job(kind, "double", micro_batch_size=4), launcher=Launcher(processes=2))
    assert_same_curve(single, double)


KILLED = """
import os, signal, sys, torch
from collections.abc import Callable
from pathlib import Path
from strop.training import Launcher, TrainingJob, train
torch.set_num_threads(1)
def advance(done, steps):
    if done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
train(TrainingJob.read(Path(sys.argv[1])), launcher=Launcher(mode="inline"), advance=advance)
"""


def kill_at(job: TrainingJob, step: int) -> None:
    """Train `job` in a process that kills itself with signal 9 right after `step`."""
    file = job.work.parent / "job.json"
    job.write(file)
    source = Path(__file__).resolve().parents[2] / "src"
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(file), str(step)], env=environment, check=False, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]


def test_resumed_equals_unbroken(make_job: JobMaker) -> None:
    """Killed at step 8 of 12, in the second epoch and under dropout, a training ends with the same bytes."""
    settings = {
        "max_steps": 12,
        "save_steps": 3,
        "schedule": "cosine",
        "warmup_ratio": 0.25,
        "micro_batch_size": 4,
        "lora": {"rank": 2, "dropout": 0.3},
    }
    unbroken, broken = make_job("sft", "unbroken", **settings), make_job("sft", "broken", **settings)
    expected = train(unbroken)
    kill_at(broken, 8)
    assert not broken.out.exists()
    outcome = train(broken)
    assert outcome.resumed_at == 6
    assert outcome.curve == expected.curve
    for name in ("model.safetensors", "adapter/adapter_model.safetensors", "config.json", "tokenizer.json"):
        assert (broken.out / name).read_bytes() == (unbroken.out / name).read_bytes(), name


def test_a_checkpoint_cut_short_is_not_continued(make_job: JobMaker) -> None:
    """A kill while a checkpoint is written leaves a part of one; the training goes back to the one before."""
    settings = {"max_steps": 6, "save_steps": 2}
    expected = train(make_job("dpo", "unbroken", **settings))
    job = make_job("dpo", "broken", **settings)
    train(job)
    last = job.work / "checkpoints" / "checkpoint-6"
    (last / "complete").unlink()
    (last / "optimizer.pt").write_bytes(b"half")
    outcome = train(job)
    assert outcome.resumed_at == 4
    assert outcome.losses == expected.losses


def test_the_same_job_twice_gives_the_same_bytes(make_job: JobMaker) -> None:
    one, two = make_job("orpo", "one"), make_job("orpo", "two")
    assert train(one).losses == train(two).losses
    names = sorted(path.relative_to(one.out) for path in one.out.rglob("*"))
    assert names == sorted(path.relative_to(two.out) for path in two.out.rglob("*"))
    for name in names:
        assert (one.out / name).read_bytes() == (two.out / name).read_bytes(), name
    assert not [name for name in names if name.suffix in {".bin", ".pt", ".md"}]


def test_another_seed_takes_another_course(make_job: JobMaker) -> None:
    assert train(make_job("sft", "one", seed=1)).losses != train(make_job("sft", "two", seed=2)).losses
