"""Where a training runs, what its process says, and how it fails: one clear message, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from strop.errors import StropError, UserError
from strop.training import Launcher, TrainingJob, train, worker
from strop.training.launching import command, failure, runs_inline

JobMaker = Callable[..., TrainingJob]


@pytest.mark.parametrize(
    ("launcher", "inline"),
    [
        (Launcher(), True),
        (Launcher(inline_below=1000), False),
        (Launcher(processes=2), False),
        (Launcher(accelerate_args=("--debug",)), False),
        (Launcher(mode="process"), False),
        (Launcher(mode="inline", inline_below=0), True),
    ],
)
def test_small_models_train_here(make_job: JobMaker, launcher: Launcher, inline: bool) -> None:
    assert runs_inline(make_job(), launcher) is inline


def test_command_on_cpu(make_job: JobMaker) -> None:
    words = command(make_job(), Launcher(processes=2), Path("job.json"))
    assert words[1:3] == ["-m", "accelerate.commands.launch"]
    assert words[words.index("--num_processes") + 1] == "2"
    assert "--cpu" in words
    assert words[-3:] == ["-m", "strop.training.worker", "job.json"]


def test_command_passes_a_configuration_through(make_job: JobMaker, tmp_path: Path) -> None:
    """An FSDP or DeepSpeed YAML decides alone: nothing of ours contradicts it."""
    fsdp = tmp_path / "fsdp.yaml"
    fsdp.write_text("distributed_type: FSDP\n")
    words = command(make_job(), Launcher(accelerate_config=fsdp, accelerate_args=("--debug",)), Path("job.json"))
    assert words[3:] == ["--config_file", str(fsdp), "--debug", "-m", "strop.training.worker", "job.json"]


def test_a_missing_configuration(make_job: JobMaker, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such accelerate configuration"):
        command(make_job(), Launcher(accelerate_config=tmp_path / "none.yaml"), Path("job.json"))


def assert_told_whole(error: StropError) -> None:
    assert isinstance(error, UserError)
    assert str(error).startswith("batch_size does not divide into micro-batches: got '8 / (micro_batch_size 3 x 1 proc")
    assert str(error).endswith("available: 1, 2, 4, 8")
    assert "Traceback" not in str(error)


def test_a_user_error_of_the_worker_is_told_whole(make_job: JobMaker) -> None:
    """What the worker raises is left as a file and raised again: the kind, the value, the fix, no traceback."""
    job = make_job(micro_batch_size=3)
    job.write(job.work / "job.json")
    assert worker.main(job.work / "job.json") == 2
    assert_told_whole(failure(job, 2))


@pytest.mark.slow
def test_a_user_error_of_a_process_arrives_whole(make_job: JobMaker) -> None:
    with pytest.raises(UserError) as caught:
        train(make_job(micro_batch_size=3), launcher=Launcher(mode="process"))
    assert_told_whole(caught.value)


def test_a_crash_shows_the_end_of_the_log(make_job: JobMaker) -> None:
    """Accelerate refuses the argument before any training starts."""
    job = make_job()
    with pytest.raises(StropError) as caught:
        train(job, launcher=Launcher(mode="process", accelerate_args=("--no-such-argument",)))
    assert caught.value.exit_code == 1
    message = str(caught.value)
    assert message.startswith("the training process ended with code")
    assert "--no-such-argument" in message
    assert str(job.work / "training.log") in message
    assert len(message.splitlines()) < 22


@pytest.mark.slow
def test_a_training_process_ends_with_its_parent(make_job: JobMaker) -> None:
    """Kill -9 of the command must leave no orphan that writes into the folder of the next one."""
    job = make_job(max_steps=100_000)
    job.write(job.work.parent / "job.json")
    script = (
        "import sys; from pathlib import Path; from strop.training import Launcher, TrainingJob, train; "
        "train(TrainingJob.read(Path(sys.argv[1])), launcher=Launcher(mode='process'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")}
    parent = subprocess.Popen([sys.executable, "-c", script, str(job.work.parent / "job.json")], env=environment)
    progress = job.work / "progress.json"
    _until(progress.is_file, 120)
    parent.kill()
    parent.wait()
    _until(lambda: time.time() - progress.stat().st_mtime > 3, 20)


def _until(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.2)


def test_a_silent_process_is_given_up(make_job: JobMaker) -> None:
    with pytest.raises(StropError, match="silent for 0 s"):
        train(make_job(), launcher=Launcher(mode="process", silence_s=0.1))


def test_another_jobs_work_folder_is_refused(make_job: JobMaker) -> None:
    train(make_job("sft", save_steps=2))
    with pytest.raises(UserError, match="checkpoints of another training"):
        train(make_job("sft", save_steps=2, learning_rate=1e-4))


def test_a_loss_that_is_no_number_stops(make_job: JobMaker) -> None:
    with pytest.raises(UserError, match=r"the training loss of step \d is not a number"):
        train(make_job("sft", learning_rate=1e20, max_grad_norm=0.0))


def test_progress_is_told_step_by_step(make_job: JobMaker) -> None:
    seen: list[tuple[int, int]] = []
    train(make_job("sft", max_steps=3), advance=lambda done, steps: seen.append((done, steps)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
