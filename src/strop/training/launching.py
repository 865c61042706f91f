"""Start a training: in this process where the model is small, else in processes of `accelerate launch`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from strop.errors import StropError, UserError
from strop.training.job import TrainingJob, TrainingOutcome
from strop.training.settings import Launcher
from strop.training.weights import parameter_count

POLL_S = 0.2
PARENT = "STROP_LAUNCHED_BY"
"""Environment variable with the id of the process that waits for a training process."""
LOG_LINES = 15
OUTCOME, PROGRESS, FAILURE, LOG, JOB = "outcome.json", "progress.json", "failure.json", "training.log", "job.json"
"""Files of a training process in the job's work folder."""

Advance = Callable[[int, int], None]
"""Told ``(steps done, steps in all)`` as a training goes on."""


def further_steps(advance: Callable[[int], None]) -> Advance:
    """Return what tells a progress bar, which counts further steps, about steps done in all."""
    done = 0

    def told(step: int, _steps: int) -> None:
        nonlocal done
        advance(step - done)
        done = step

    return told


def train(
    job: TrainingJob, *, launcher: Launcher | None = None, advance: Advance = lambda done, steps: None
) -> TrainingOutcome:
    """Train as `job` says and write the model to ``job.out``; the same call continues a training that was killed.

    Args:
        job: What to train.
        launcher: Where to; one process by default.
        advance: Called with the number of steps done and the number of steps in all.

    Returns:
        The loss curve, counts and findings.

    Raises:
        UserError: The rows, the settings or the model do not allow the training, or the loss stopped being a number.
        StropError: A training process failed or fell silent; the last lines of its log are in the message.
    """
    launcher = launcher or Launcher()
    if runs_inline(job, launcher):
        from strop.training.running import execute

        return execute(job, advance=advance)
    return _launch(job, launcher, advance)


def runs_inline(job: TrainingJob, launcher: Launcher) -> bool:
    """Return whether the job trains in the calling process."""
    if launcher.mode != "auto":
        return launcher.mode == "inline"
    alone = launcher.processes == 1 and launcher.accelerate_config is None and not launcher.accelerate_args
    return alone and parameter_count(job.model) < launcher.inline_below


def command(job: TrainingJob, launcher: Launcher, job_file: Path) -> list[str]:
    """Return the command line that trains `job_file` under accelerate."""
    words = [sys.executable, "-m", "accelerate.commands.launch"]
    if launcher.accelerate_config is not None:
        if not launcher.accelerate_config.is_file():
            raise UserError("no such accelerate configuration", value=str(launcher.accelerate_config))
        words += ["--config_file", str(launcher.accelerate_config)]
    else:
        words += ["--num_processes", str(launcher.processes), "--num_machines", "1", "--dynamo_backend", "no"]
        words += ["--mixed_precision", "bf16" if job.settings.precision == "bf16" else "no"]
        words += ["--main_process_port", str(_free_port())]
        words += ["--cpu"] if _on_cpu(job) else ["--multi_gpu"] if launcher.processes > 1 else []
    return [*words, *launcher.accelerate_args, "-m", "strop.training.worker", str(job_file)]


def _on_cpu(job: TrainingJob) -> bool:
    import torch

    return job.device == "cpu" or not torch.cuda.is_available()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _launch(job: TrainingJob, launcher: Launcher, advance: Advance) -> TrainingOutcome:
    job.work.mkdir(parents=True, exist_ok=True)
    for name in (OUTCOME, PROGRESS, FAILURE):
        (job.work / name).unlink(missing_ok=True)
    job.write(job.work / JOB)
    log = job.work / LOG
    with log.open("ab") as stream:
        process = subprocess.Popen(
            command(job, launcher, job.work / JOB),
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=_environment(),
            # A group of its own: accelerate's workers end with it.
            start_new_session=True,
        )
        try:
            code = _wait(process, job, launcher, advance)
        finally:
            _end(process)
    if code != 0 or not (job.work / OUTCOME).is_file():
        raise failure(job, code)
    return TrainingOutcome.read(job.work / OUTCOME)


def _environment() -> dict[str, str]:
    source = str(Path(__file__).resolve().parents[2])
    paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "TRL_EXPERIMENTAL_SILENCE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {**os.environ, **quiet, "PYTHONPATH": os.pathsep.join(paths), PARENT: str(os.getpid())}


def _wait(process: subprocess.Popen[bytes], job: TrainingJob, launcher: Launcher, advance: Advance) -> int:
    """Wait for the process to end, passing its progress on; a process without any for too long is given up."""
    seen, since = "", time.monotonic()
    while process.poll() is None:
        time.sleep(POLL_S)
        heard = _progress(job)
        if heard != seen:
            seen, since = heard, time.monotonic()
            advance(*json.loads(heard))
        if time.monotonic() - since > launcher.silence_s:
            raise StropError(
                f"the training process has been silent for {launcher.silence_s:.0f} s",
                value=f"step {json.loads(seen)[0] if seen else 0}",
                why=_tail(job.work / LOG),
                fix="run the same command again: it continues from the last checkpoint; or raise launcher.silence_s",
            )
    return process.returncode


def _progress(job: TrainingJob) -> str:
    try:
        return (job.work / PROGRESS).read_text()
    except FileNotFoundError:
        return ""


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def failure(job: TrainingJob, code: int) -> StropError:
    """Return the worker's own error where it left one, else one with the end of its log."""
    from strop import errors

    file = job.work / FAILURE
    if file.is_file():
        told = json.loads(file.read_text())
        kind: type[StropError] = getattr(errors, told.pop("kind"))
        return kind(**told)
    return StropError(
        f"the training process ended with code {code}",
        why="its last lines were:\n    " + _tail(job.work / LOG),
        fix=f"the whole log is {job.work / LOG}; the same command continues from the last checkpoint",
    )


def _tail(log: Path, lines: int = LOG_LINES) -> str:
    text = log.read_text(errors="replace") if log.is_file() else ""
    kept: Sequence[str] = [line for line in text.splitlines() if line.strip()]
    return "\n    ".join(kept[-lines:])
