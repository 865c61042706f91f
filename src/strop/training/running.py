"""One job from rows to saved weights, in the process that calls it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strop.errors import UserError
from strop.models.rewards.reading import reward_tokenizer
from strop.models.weights import file_hash
from strop.records.rows import PreferencePair, SupervisedExample
from strop.records.tables import read_table
from strop.training.arguments import COMPLETE, checkpoint_folder
from strop.training.checks import after_training, before_training, refuse
from strop.training.continuing import prepare
from strop.training.curve import Curve, sft_verdict
from strop.training.job import BEST, LOOKS, Finding, Kind, TrainingJob, TrainingOutcome
from strop.training.preference import dpo_trainer, orpo_trainer
from strop.training.rendering import TokenisedRows, tokenise
from strop.training.reward import (
    load_reward_start,
    principles_of,
    reward_findings,
    reward_start,
    reward_trainer,
    reward_verdict,
    save_reward,
    select_on_development,
    separator_of,
    tokenise_pairs,
)
from strop.training.sft import sft_trainer
from strop.training.weights import (
    ADAPTER_FOLDER,
    copy_tokenizer,
    load_start,
    load_tokenizer,
    merge,
    plain_model,
    resume_adapter,
    settle_adapter,
    start_revision,
)

TRAINERS = {"sft": sft_trainer, "dpo": dpo_trainer, "orpo": orpo_trainer}

Advance = Callable[[int, int], None]
"""Told ``(steps done, steps in all)`` after each optimiser step."""


def execute(job: TrainingJob, *, advance: Advance) -> TrainingOutcome:
    """Train as `job` says, from its last complete checkpoint where there is one, and save the model.

    Raises:
        UserError: The rows, the settings or the model do not allow the training, or the loss stopped being a number.
    """
    with quiet():
        return _execute(job, advance)


@dataclass(frozen=True)
class Prepared:
    """A training that is ready to start.

    Attributes:
        trainer: TRL's trainer.
        rows: What it trains on.
        step0: The loss of the starting model; None where it cannot be probed.
        findings: The checks before training.
        finish: Writes what was trained.
        verdict: Says what the finished curve tells.
    """

    trainer: Any
    rows: TokenisedRows
    step0: float | None
    findings: Sequence[Finding]
    finish: Callable[[], None]
    verdict: Callable[[Curve], Sequence[Finding]]


def _execute(job: TrainingJob, advance: Advance) -> TrainingOutcome:
    started = time.monotonic()
    for start in filter(None, (job.model, job.reference, job.teacher)):
        plain_model(start)
    if job.kind == "continue":
        claim(job)
        ready = _plain_text(job)
    else:
        records = read_rows(job.rows, job.kind)
        claim(job)
        ready = _reward_model(job, records) if job.kind == "reward" else _language_model(job, records)
    checkpoint = _train(job, ready.trainer, advance)
    ready.finish()
    curve = _curve(ready.trainer)
    return TrainingOutcome(
        losses=tuple(entry["loss"] for entry in curve),
        curve=curve,
        steps=ready.trainer.state.global_step,
        rows=len(ready.rows.rows),
        dropped=len(ready.rows.dropped),
        truncated=len(ready.rows.truncated),
        supervised_tokens=ready.rows.supervised_tokens,
        tokens=ready.rows.tokens,
        step0_loss=curve[0]["loss"] if ready.step0 is None else ready.step0,
        wall_s=time.monotonic() - started,
        resumed_at=int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0,
        findings=(*ready.findings, *ready.verdict(curve)),
    )


def _language_model(job: TrainingJob, records: Sequence[SupervisedExample | PreferencePair]) -> Prepared:
    tokenizer = load_tokenizer(job.model)
    rows = tokenise(tokenizer, records, job.settings)
    model = load_start(job.model, job.settings)
    described = deepcopy((model.config, model.generation_config))
    if job.adapter is not None:
        model = resume_adapter(model, job.adapter, job.settings)
    trainer = TRAINERS[job.kind](job, model=model, tokenizer=tokenizer, rows=rows)
    step0, findings = before_training(job, rows, trainer=trainer, tokenizer=tokenizer, total=len(records))
    return Prepared(
        trainer,
        rows,
        step0,
        findings,
        finish=lambda: save(job, trainer, *described),
        verdict=lambda curve: after_training(job, rows, curve),
    )


def _plain_text(job: TrainingJob) -> Prepared:
    ready = prepare(job)
    return Prepared(
        ready.trainer,
        ready.rows,
        ready.step0,
        ready.findings,
        finish=lambda: save(job, ready.trainer, *ready.described),
        verdict=lambda curve: [sft_verdict(curve)],
    )


def _reward_model(job: TrainingJob, records: Sequence[SupervisedExample | PreferencePair]) -> Prepared:
    pairs = [record for record in records if isinstance(record, PreferencePair)]
    tokenizer = reward_tokenizer(job.model)
    pad = tokenizer.pad_token_id
    rows, principles = tokenise_pairs(tokenizer, pairs, job), principles_of(job)
    model = load_reward_start(job, outputs=max(len(principles), 1), pad=pad)
    trainer = reward_trainer(job, model=model, tokenizer=tokenizer, rows=rows, principles=principles)
    findings = reward_findings(tokenizer, rows, total=len(pairs))
    step0, start = reward_start(trainer, rows, pad=pad, separator=separator_of(job, tokenizer))
    refuse([*findings, start])
    selection = select_on_development(job, trainer, tokenizer)
    return Prepared(
        trainer,
        rows,
        step0,
        [*findings, start],
        finish=lambda: save_reward(job, trainer, tokenizer, principles, selection),
        verdict=lambda curve: reward_verdict(job, trainer, rows, curve, tokenizer=tokenizer, selection=selection),
    )


def _curve(trainer: Any) -> tuple[dict[str, float], ...]:
    """Return what was logged at each step; TRL's token counter starts anew when a training is resumed."""
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    return tuple({key: value for key, value in entry.items() if key != "num_tokens"} for entry in steps)


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back the progress bars of transformers and datasets: the caller shows one of its own."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled(), are_progress_bars_disabled()
    logging.disable_progress_bar()
    disable_progress_bars()
    try:
        yield
    finally:
        if bars[0]:
            logging.enable_progress_bar()
        if not bars[1]:
            enable_progress_bars()


def _train(job: TrainingJob, trainer: Any, advance: Advance) -> Path | None:
    from strop.training.trainers import watch

    watch(trainer, advance)
    checkpoint = last_checkpoint(job)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return checkpoint


def read_rows(table: Path, kind: Kind) -> list[SupervisedExample | PreferencePair]:
    """Return the rows of a table: examples for SFT, pairs for DPO and ORPO."""
    record = SupervisedExample if kind == "sft" else PreferencePair
    return [record.from_row(row) for row in read_table(table)]


def claim(job: TrainingJob) -> None:
    """Make the work folder the job's own.

    Raises:
        UserError: It holds checkpoints of another job, which would be continued with the wrong settings.
    """
    job.work.mkdir(parents=True, exist_ok=True)
    owner = job.work / "owner"
    starts = " ".join(
        start_revision(folder) for folder in (job.model, job.reference, job.adapter, job.teacher) if folder is not None
    )
    tables = " ".join(file_hash(table) for table in (job.rows, job.development) if table is not None)
    identity = f"{job.fingerprint()} {starts} {tables}"
    if owner.is_file() and owner.read_text() != identity and any(checkpoint_folder(job).glob("checkpoint-*")):
        raise UserError(
            "the work folder holds checkpoints of another training",
            value=str(job.work),
            why="its model, rows, seed or settings were different",
            fix="remove the folder, or give this training one of its own",
        )
    if not owner.is_file() or owner.read_text() != identity:
        for file in (BEST, LOOKS):
            (job.work / file).unlink(missing_ok=True)
    owner.write_text(identity)


def last_checkpoint(job: TrainingJob) -> Path | None:
    """Return the newest checkpoint that was written whole; parts of others are removed."""
    found: list[tuple[int, Path]] = []
    for folder in checkpoint_folder(job).glob("checkpoint-*"):
        if (folder / COMPLETE).is_file():
            found.append((int(folder.name.rpartition("-")[2]), folder))
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return max(found)[1] if found else None


def save(job: TrainingJob, trainer: Any, config: Any, generation_config: Any) -> None:
    """Write the trained model and its tokenizer to ``job.out``, safetensors and JSON only.

    The folder differs from the start's in its weights alone: what the trainer changed for itself (padding token, no
    key-value cache) is put back to `config` and `generation_config`, and its pickled arguments are left out.
    """
    lora = job.settings.lora
    folder = job.out / ADAPTER_FOLDER if lora else job.out
    if not lora:
        trainer.model.config, trainer.model.generation_config = config, generation_config
    trainer.processing_class = None
    trainer.save_model(str(folder))
    if not trainer.accelerator.is_main_process:
        return
    if lora:
        settle_adapter(folder)
    (folder / "training_args.bin").unlink(missing_ok=True)
    if lora and lora.merge:
        merge(job.model, folder, job.out)
    for written in {folder, job.out}:
        copy_tokenizer(job.model, written)
