"""Is this training sane? Checks of the rows and of the model before any step, for the user's own set-up.

Each check is a `Finding`. Before a training the failing ones stop it; `strop doctor` shows all of them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from strop.errors import UserError
from strop.training.curve import Curve, odds_verdict, preference_verdict, sft_verdict
from strop.training.job import Finding, Kind, TrainingJob
from strop.training.probe import Scores, odds_ratio_loss, preference_loss, response_log_probs, supervised_loss
from strop.training.rendering import TokenisedRow, TokenisedRows, tokenise
from strop.training.settings import PreferenceSettings, TrainingSettings

SHOWN_TOKENS, SHOWN_ROWS = 5, 3
SUPERVISED_BAND = (0.02, 0.98)
"""Share of tokens that carry loss outside of which a mask is suspect."""
PROBED_ROWS = 16
ABOVE_UNIFORM = 1.0
"""Nats above the loss of a uniform guess at which a starting model is suspect."""
TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}
"""Nats per token by which batching may move a log-probability."""
END_WITHIN = 3
"""An end token is looked for in this many last tokens: some templates write a line break after it."""


def row_findings(tokenizer: Any, rows: TokenisedRows, kind: Kind, total: int) -> list[Finding]:
    """Check tokenised rows: ends, starts, mask share, lengths, empty and identical responses, template.

    Args:
        tokenizer: The tokenizer that made the rows.
        rows: What is trained on.
        kind: The kind of training.
        total: Rows before the too-long ones were dropped.
    """
    findings = [
        _end_token(tokenizer, rows),
        _start_token(tokenizer, rows.rows),
        _supervised_share(rows),
        _too_long(rows, total),
        _empty(tokenizer, rows.rows),
        _template(tokenizer),
        _padding_token(tokenizer),
    ]
    return findings if kind == "sft" else [*findings, _identical(rows.rows), _lengths(rows.rows)]


def _responses(rows: Iterable[TokenisedRow]) -> Iterator[list[int]]:
    return (response for row in rows for response in row.responses)


def _end_token(tokenizer: Any, rows: TokenisedRows) -> Finding:
    end, cut = tokenizer.eos_token_id, set(rows.truncated)
    whole = [response for row in rows.rows if row.id not in cut for response in row.responses]
    bad = [response for response in whole if response[-END_WITHIN:].count(end) != 1]
    shown = bad or list(_responses(rows.rows))
    tails = "; ".join(
        " ".join(map(repr, tokenizer.convert_ids_to_tokens(response[-SHOWN_TOKENS:])))
        for response in shown[:SHOWN_ROWS]
    )
    twice = any(response[-END_WITHIN:].count(end) > 1 for response in bad)
    return Finding(
        name="end token carries loss",
        status="fail" if bad else "ok",
        value=f"{len(whole) - len(bad)} of {len(whole)} responses end with one {tokenizer.eos_token!r}: {tails}",
        why="a model that is never taught its end token does not stop; one taught it twice learns to repeat it",
        fix=f"{'strip' if twice else 'check'} the end token in the rows and in the chat template" if bad else "",
    )


def _start_token(tokenizer: Any, rows: Sequence[TokenisedRow]) -> Finding:
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    doubled = sum(row.prompt_ids[:2] == [start, start] for row in rows) if start is not None else 0
    ended = sum(row.prompt_ids[-1:] == [end] for row in rows) if start != end else 0
    bad = doubled + ended
    return Finding(
        name="start of the prompt",
        status="fail" if bad else "ok",
        value=f"{doubled} prompts start with two start tokens, {ended} end with an end token, of {len(rows)}",
        why="the tokenizer adds special tokens to a text that holds them already, and generation will not",
        fix="set add_bos_token and add_eos_token to false in tokenizer_config.json" if bad else "",
    )


def _supervised_share(rows: TokenisedRows) -> Finding:
    share = rows.supervised_tokens / rows.tokens
    low, high = SUPERVISED_BAND
    inside = low <= share <= high
    return Finding(
        name="share of supervised tokens",
        status="ok" if inside else "fail" if share == 0 else "warn",
        value=f"{share:.1%} ({rows.supervised_tokens} of {rows.tokens} tokens)",
        why=f"outside {low:.0%} to {high:.0%} the mask probably misses the response or covers the prompt",
        fix="" if inside else "look at the mask preview of strop doctor",
    )


def _too_long(rows: TokenisedRows, total: int) -> Finding:
    affected = len(rows.dropped) + len(rows.truncated)
    return Finding(
        name="rows longer than max_length",
        status="warn" if affected else "ok",
        value=f"{len(rows.dropped)} dropped, {len(rows.truncated)} cut, of {total}",
        why="dropping favours short responses; a cut response teaches no end token",
        fix="raise max_length" if affected else "",
    )


def _empty(tokenizer: Any, rows: Sequence[TokenisedRow]) -> Finding:
    special = set(tokenizer.all_special_ids)
    empty = [row.id for row in rows if any(not set(response) - special for response in row.responses)]
    return Finding(
        name="empty responses",
        status="warn" if empty else "ok",
        value=f"{len(empty)} of {len(rows)}" + (f" (ids {empty[:5]})" if empty else ""),
        why="an empty response teaches the model to end at once",
        fix="remove these rows" if empty else "",
    )


def _identical(rows: Sequence[TokenisedRow]) -> Finding:
    same = [row.id for row in rows if row.responses[0] == row.responses[1]]
    return Finding(
        name="identical chosen and rejected",
        status="warn" if same else "ok",
        value=f"{len(same)} of {len(rows)}" + (f" (ids {same[:5]})" if same else ""),
        why="such a pair has no gradient under DPO: its loss stays ln 2",
        fix="remove these rows" if same else "",
    )


def _lengths(rows: Sequence[TokenisedRow]) -> Finding:
    chosen, rejected = (fmean(len(row.responses[side]) for row in rows) for side in (0, 1))
    skewed = max(chosen, rejected) > 1.5 * min(chosen, rejected)
    return Finding(
        name="length of chosen and rejected",
        status="warn" if skewed else "ok",
        value=f"{chosen:.1f} and {rejected:.1f} tokens on average",
        why="DPO sums log-probabilities, so a difference in length is learned as if it were quality",
        fix="balance the lengths of the pairs, or compare results at equal length" if skewed else "",
    )


def _template(tokenizer: Any) -> Finding:
    template = tokenizer.chat_template
    value = f"sha256 {hashlib.sha256(template.encode()).hexdigest()[:16]}" if template else "none: plain prompts only"
    return Finding(
        name="chat template",
        status="ok",
        value=value,
        why="training and serving must render prompts alike: compare this with the server's template",
    )


def _padding_token(tokenizer: Any) -> Finding:
    shared = tokenizer.pad_token_id == tokenizer.eos_token_id
    return Finding(
        name="padding token",
        status="ok",
        value=f"{tokenizer.pad_token!r}" + (", the end token too" if shared else ""),
        why="masking by token id would hide the end token; strop masks by position",
    )


def model_findings(
    model: Any,
    tokenizer: Any,
    rows: TokenisedRows,
    settings: TrainingSettings,
    *,
    reference: Scores | None = None,
    apart: bool = False,
) -> tuple[float, list[Finding]]:
    """Check the starting model on the first rows.

    Args:
        model: What training would start from, adapters attached.
        tokenizer: Its tokenizer.
        rows: What is trained on.
        settings: The settings of the training; their class and loss tell its kind.
        reference: DPO: what the trainer holds as the reference's log-probabilities of the first rows; where None, the
            model scores them with its adapters switched off.
        apart: DPO: whether the reference is another model than the start, so that margins need not be zero.

    Returns:
        The loss of the starting model, and the findings.
    """
    some, pad = rows.rows[:PROBED_ROWS], tokenizer.pad_token_id
    scores = response_log_probs(model, some, pad=pad)
    invariance = _padding_invariance(model, pad, some, scores, settings)
    if not isinstance(settings, PreferenceSettings):
        loss = supervised_loss(scores, some)
        return loss, [likelihood_start(loss, loss, model), invariance]
    if settings.loss == "orpo":
        loss = odds_ratio_loss(scores, some, beta=settings.beta)
        chosen = -fmean(row_scores[0] / len(row.responses[0]) for row_scores, row in zip(scores, some, strict=True))
        return loss, [likelihood_start(loss, chosen, model), invariance]
    if reference is None:
        reference = response_log_probs(model, some, pad=pad, reference=True)
    compared = [_per_token(sums, some) if settings.length_normalised else sums for sums in (scores, reference)]
    loss, margin = preference_loss(compared[0], compared[1][: len(some)], beta=settings.beta)
    if apart:
        return loss, [_apart_start(loss, margin), invariance]
    tokens = max(row.length for row in some)
    return loss, [_dpo_start(loss, margin, TOLERANCE[settings.precision] * tokens), invariance]


def _per_token(sums: Scores, rows: Sequence[TokenisedRow]) -> Scores:
    return [
        tuple(total / len(response) for total, response in zip(totals, row.responses, strict=True))
        for totals, row in zip(sums, rows, strict=False)
    ]


def likelihood_start(loss: float, nll: float, model: Any) -> Finding:
    """Say whether a starting model's loss is that of a model that belongs to its tokens."""
    uniform = math.log(model.config.get_text_config().vocab_size)
    finite, plausible = math.isfinite(loss), nll < uniform + ABOVE_UNIFORM
    return Finding(
        name="loss at step 0",
        status="ok" if plausible and finite else "warn" if finite else "fail",
        value=f"{loss:.4f} (likelihood term {nll:.4f}; a uniform guess has {uniform:.4f})",
        why="a start far worse than guessing has the wrong tokenizer, template or weights",
        fix="" if plausible else "check that model and tokenizer belong together",
    )


def _dpo_start(loss: float, margin: float, tolerance: float) -> Finding:
    same = margin <= tolerance
    return Finding(
        name="loss at step 0",
        status="ok" if same else "fail",
        value=f"{loss:.6f} (ln 2 = {math.log(2):.6f}), largest margin {margin:.2e} nats",
        why="DPO starts at its own reference: margin 0 and loss ln 2, or the reference is not the starting model",
        fix=""
        if same
        else "start from a plain or merged model, not from an adapter on another base; remove the work folder",
    )


def _apart_start(loss: float, margin: float) -> Finding:
    return Finding(
        name="loss at step 0",
        status="ok" if math.isfinite(loss) else "fail",
        value=f"{loss:.6f} (ln 2 = {math.log(2):.6f}), largest margin {margin:.2e} nats",
        why="the reference is another model than the start: how far they are apart is what the loss starts from",
    )


def _padding_invariance(
    model: Any, pad: int, rows: Sequence[TokenisedRow], together: Scores, settings: TrainingSettings
) -> Finding:
    few = rows[:4]
    alone = response_log_probs(model, few, pad=pad, batch=1)
    largest = max(
        abs(one - other) / len(response)
        for row, ones, others in zip(few, alone, together[: len(few)], strict=True)
        for response, one, other in zip(row.responses, ones, others, strict=True)
    )
    bound = TOLERANCE[settings.precision]
    return Finding(
        name="padding invariance",
        status="ok" if largest <= bound else "fail",
        value=f"{largest:.1e} nats per token between a padded batch and single rows (bound {bound:g})",
        why="a model that sees its padding learns other things at other batch sizes",
        fix="" if largest <= bound else "check the model's attention implementation and its use of attention_mask",
    )


def before_training(
    job: TrainingJob, rows: TokenisedRows, *, trainer: Any, tokenizer: Any, total: int
) -> tuple[float | None, list[Finding]]:
    """Check what is about to be trained; return the loss of the starting model and the findings.

    Sharded models (FSDP, DeepSpeed) cannot be probed here: their first logged loss is checked by `after_training`.

    Raises:
        UserError: A check failed.
    """
    findings = row_findings(tokenizer, rows, job.kind, total)
    loss = None
    if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        reference = _held_reference(trainer) if job.kind == "dpo" else None
        apart = job.reference is not None
        loss, probed = model_findings(trainer.model, tokenizer, rows, job.settings, reference=reference, apart=apart)
        findings += probed
    refuse(findings)
    return loss, findings


def _held_reference(trainer: Any) -> Scores:
    some = trainer.train_dataset.select(range(min(PROBED_ROWS, len(trainer.train_dataset))))
    return list(zip(some["ref_chosen_logps"], some["ref_rejected_logps"], strict=True))


def refuse(findings: Iterable[Finding]) -> None:
    """Raise a `UserError` that names every failed check, if there is one."""
    failed = [finding for finding in findings if finding.status == "fail"]
    if failed:
        first = failed[0]
        raise UserError(
            f"the training would not do what it says: {', '.join(finding.name for finding in failed)}",
            value=first.value,
            why=first.why,
            fix=first.fix or None,
        )


def after_training(job: TrainingJob, rows: TokenisedRows, curve: Curve) -> list[Finding]:
    """Return the verdict on a finished training's curve."""
    if not isinstance(job.settings, PreferenceSettings):
        return [sft_verdict(curve)]
    if job.kind == "orpo":
        return [odds_verdict(curve)]
    tokens = fmean(len(row.responses[0]) for row in rows.rows)
    return [preference_verdict(curve, beta=job.settings.beta, response_tokens=tokens)]


def examine(model: Path, rows: Path, kind: Kind, settings: TrainingSettings) -> list[Finding]:
    """Check a model folder and a table of rows as a training would, without training: what `strop doctor` shows.

    Raises:
        UserError: The folder or the table cannot be read, or no row is left.
    """
    from strop.training.running import read_rows
    from strop.training.weights import attach_adapter, load_start, load_tokenizer

    records = read_rows(rows, kind)
    tokenizer = load_tokenizer(model)
    tokenised = tokenise(tokenizer, records, settings)
    start = attach_adapter(load_start(model, settings), settings)
    _, probed = model_findings(start, tokenizer, tokenised, settings)
    return [*row_findings(tokenizer, tokenised, kind, len(records)), *probed]
