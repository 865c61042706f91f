"""Going on with pre-training on plain text: a dense model, one with pruned heads, or one that routes its heads.

One trainer for all three, so that a comparison of them differs by the model alone: the same blocks in the same order,
the same steps, the same teacher where there is one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strop.errors import UserError
from strop.records.rows import identifier
from strop.records.tables import read_table
from strop.training.arguments import common_arguments
from strop.training.blocks import Document, block_ids, cut, packed
from strop.training.checks import likelihood_start, refuse
from strop.training.job import Finding, TrainingJob
from strop.training.probe import response_log_probs, supervised_loss
from strop.training.rendering import TokenisedRow, TokenisedRows
from strop.training.settings import ContinueSettings
from strop.training.weights import attach_adapter, load_start, load_tokenizer, resume_adapter

PROBED_BLOCKS, LOOK_BATCH = 4, 8
ROUTER = ".router."
"""In the name of every weight of a router."""
MANY_PASSES = 4.0
"""Passes over the same text up to which repeating is nearly as good as new text (Muennighoff et al., 2023)."""


@dataclass(frozen=True)
class Continued:
    """A training on plain text, ready to start.

    Attributes:
        trainer: What trains.
        rows: The packed blocks.
        step0: Loss of the starting model on the first blocks; None where it cannot be probed.
        findings: The checks before training.
        described: The start's config and generation config, which are saved again.
    """

    trainer: Any
    rows: TokenisedRows
    step0: float | None
    findings: Sequence[Finding]
    described: tuple[Any, Any]


@dataclass(frozen=True)
class Look:
    """A look at held-back text while the model learns.

    Attributes:
        rows: Blocks of the held-back documents.
        every: Steps between looks; 0 looks at the end alone.
        pad: Id of the padding token.
    """

    rows: Sequence[TokenisedRow]
    every: int
    pad: int

    def due(self, step: int, last: int) -> bool:
        """Return whether a look belongs to a step."""
        return step == last or (self.every > 0 and step % self.every == 0)

    def loss(self, model: Any) -> float:
        """Return the mean negative log-likelihood of a token, in nats."""
        return supervised_loss(response_log_probs(model, self.rows, pad=self.pad, batch=LOOK_BATCH), self.rows)


def read_documents(table: Path) -> list[Document]:
    """Return the documents of a table of `id` and `text`.

    Raises:
        UserError: A row lacks one of the two, or `text` is no text.
    """
    documents = []
    for row in read_table(table):
        text = row.get("text")
        if not isinstance(text, str):
            raise UserError("a row of plain text needs the field 'text'", value=sorted(row), fix=f"correct {table}")
        documents.append((identifier(row), text))
    return documents


def prepare(job: TrainingJob) -> Continued:
    """Load what a job of kind `continue` trains, and check it.

    Raises:
        UserError: The text fills no block, teacher and student have different vocabularies, or the start cannot be
            trained.
    """
    settings = _settings(job)
    tokenizer = load_tokenizer(job.model)
    rows = packed(tokenizer, read_documents(job.rows), length=settings.max_length)
    model = load_start(job.model, settings)
    described = deepcopy((model.config, model.generation_config))
    attach = attach_adapter(model, settings) if job.adapter is None else resume_adapter(model, job.adapter, settings)
    trainer = _trainer(job, attach, tokenizer, rows)
    step0, findings = None, [_passes(job, rows), *_router(trainer.model)]
    if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        few = rows.rows[:PROBED_BLOCKS]
        step0 = supervised_loss(response_log_probs(trainer.model, few, pad=tokenizer.pad_token_id), few)
        findings.append(likelihood_start(step0, step0, trainer.model))
    refuse(findings)
    return Continued(trainer, rows, step0, findings, described)


def _settings(job: TrainingJob) -> ContinueSettings:
    if not isinstance(job.settings, ContinueSettings):
        raise UserError("plain text needs its own settings", value=type(job.settings).__name__)
    return job.settings


def _trainer(job: TrainingJob, model: Any, tokenizer: Any, rows: TokenisedRows) -> Any:
    from transformers import TrainingArguments

    from strop.training.continuing_trainer import ContinueTrainer

    settings = _settings(job)
    return ContinueTrainer(
        settings=settings,
        teacher=_teacher(job, model),
        look=_look(job, tokenizer),
        model=model,
        args=TrainingArguments(**common_arguments(job)),
        train_dataset=[{"input_ids": block_ids(row)} for row in rows.rows],
        processing_class=tokenizer,
    )


def _teacher(job: TrainingJob, student: Any) -> Any:
    if job.teacher is None:
        return None
    teacher = load_start(job.teacher, job.settings).eval().requires_grad_(False)
    sizes = [model.config.get_text_config().vocab_size for model in (student, teacher)]
    if sizes[0] != sizes[1]:
        raise UserError(
            "teacher and student have different vocabularies",
            value=f"{sizes[1]} and {sizes[0]} tokens",
            why="their predictions are compared token by token",
            fix="take a teacher with the student's tokenizer",
        )
    return teacher


def _look(job: TrainingJob, tokenizer: Any) -> Look | None:
    if job.development is None:
        return None
    settings = _settings(job)
    rows = cut(tokenizer, read_documents(job.development), length=settings.max_length)
    if not rows:
        raise UserError("there is no text to watch the training on", value=str(job.development))
    return Look(rows, settings.evaluate_steps, tokenizer.pad_token_id)


def _router(model: Any) -> list[Finding]:
    """Say whether routers learn: adapters leave their weights alone."""
    routers = [weight for name, weight in model.named_parameters() if ROUTER in name]
    if not routers:
        return []
    learned = sum(weight.numel() for weight in routers if weight.requires_grad)
    return [
        Finding(
            name="routers",
            status="ok" if learned else "warn",
            value=f"{learned:,} of {sum(weight.numel() for weight in routers):,} router weights are trained",
            why="with LoRA a router stays as it started: fitted, or without any preference",
            fix="" if learned else "start from a fitted router, or train all weights",
        )
    ]


def _passes(job: TrainingJob, rows: TokenisedRows) -> Finding:
    settings, blocks = job.settings, len(rows.rows)
    steps = settings.max_steps or math.ceil((settings.epochs or 0) * math.ceil(blocks / settings.batch_size))
    passes = steps * settings.batch_size / blocks
    many = passes > MANY_PASSES
    return Finding(
        name="passes over the text",
        status="warn" if many else "ok",
        value=f"{passes:.2f} over {blocks} blocks of {settings.max_length} tokens",
        why="the same text again and again is learned by heart",
        fix="fewer steps, or more text" if many else "",
    )
