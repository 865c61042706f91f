"""A reward model on TRL's RewardTrainer: Bradley and Terry's loss on pairs, with one output or one for each principle.

The head starts at zero, so that every training starts at a loss of exactly ln 2: a start that is not there has the
wrong head or the wrong loss. The score is read from one end token behind the response; padding is another token, or the
last token that is no padding, which transformers looks for, would stand in front of the end.

This module loads torch inside its functions only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from strop.errors import UserError
from strop.models.rewards.facts import RewardFacts
from strop.models.rewards.reading import encode_untrimmed, form_of, segments
from strop.records.rows import PreferencePair
from strop.records.tables import read_table
from strop.training.arguments import reward_arguments
from strop.training.curve import Curve, sft_verdict
from strop.training.job import Finding, TrainingJob
from strop.training.probe import softplus
from strop.training.rendering import TokenisedRow, TokenisedRows, within_length
from strop.training.settings import RewardSettings
from strop.training.weights import ADAPTER_FOLDER, copy_tokenizer, lora_config, settle_adapter

HEADS = ("score", "classifier")
"""What transformers calls the output layer of a sequence classifier."""
TIED = 1e-9
"""Rewards closer than this are equal."""
PROBED = 16
"""Pairs whose rewards are looked at before and after a training."""
START_TOLERANCE = 1e-6


def reward_settings(job: TrainingJob) -> RewardSettings:
    """Return the job's settings as a reward model's."""
    if not isinstance(job.settings, RewardSettings):
        raise UserError("a reward model needs reward settings", value=type(job.settings).__name__)
    return job.settings


def principles_of(job: TrainingJob) -> tuple[str, ...]:
    """Return the principles that get an output each: those of the rows' ratings; none with a single head.

    Raises:
        UserError: A row has no ratings.
    """
    if reward_settings(job).heads == "single":
        return ()
    rows = read_table(job.rows)
    for row in rows:
        if not all(isinstance(row.get(f"{side}_ratings"), Mapping) for side in ("chosen", "rejected")):
            fix = "use heads: single, or pairs with 'chosen_ratings' and 'rejected_ratings'"
            raise UserError("a pair without ratings cannot teach principles", value=row.get("id"), fix=fix)
    return tuple(dict.fromkeys(key for row in rows for key in row["chosen_ratings"]))


def is_encoder(model: Path) -> bool:
    """Say whether a base model reads both ways and writes nothing."""
    told = json.loads((model / "config.json").read_text(encoding="utf-8"))
    return not any("CausalLM" in name or "ConditionalGeneration" in name for name in told.get("architectures") or [])


def tokenise_pairs(tokenizer: Any, rows: Sequence[PreferencePair], job: TrainingJob) -> TokenisedRows:
    """Turn pairs into whole texts of tokens, prompt and response together, and apply the rule for those too long.

    Raises:
        UserError: No row is left, or more than the ceiling's share are too long.
    """
    form = form_of(tokenizer, encoder=is_encoder(job.model))
    items = [(row.prompt, text) for row in rows for text in (row.chosen, row.rejected)]
    ids = iter(encode_untrimmed(tokenizer, items, form=form))
    return within_length([TokenisedRow(row.id, [], (next(ids), next(ids))) for row in rows], job.settings)


def load_reward_start(job: TrainingJob, *, outputs: int, pad: int, full_precision: bool = False) -> Any:
    """Return the job's base model with a new output layer of zeros.

    Args:
        job: The training.
        outputs: Numbers that it puts out.
        pad: Id of the padding token.
        full_precision: Hold frozen weights in fp32 too, as merging an adapter wants it.
    """
    import torch
    from transformers import AutoModelForSequenceClassification
    from trl.trainer.reward_trainer import suppress_seqcls_warning

    from strop.models.batching import quiet_transformers

    half = job.settings.lora is not None and job.settings.precision == "bf16" and not full_precision
    dtype = torch.bfloat16 if half else torch.float32
    # That the output layer is new is what is wanted.
    with quiet_transformers(), suppress_seqcls_warning():
        loaded = AutoModelForSequenceClassification.from_pretrained(job.model, num_labels=outputs, dtype=dtype)
    loaded.config.get_text_config().pad_token_id = pad
    for parameter in head_of(loaded).parameters():
        torch.nn.init.zeros_(parameter)
    return loaded


def head_of(model: Any) -> Any:
    """Return the output layer of a sequence classifier.

    Raises:
        UserError: It has none that is known.
    """
    for name in HEADS:
        if hasattr(model, name):
            return getattr(model, name)
    raise UserError("this architecture has no output layer that strop knows", value=type(model).__name__)


def head_name(model: Any) -> str:
    """Return the name of the output layer."""
    return next(name for name in HEADS if hasattr(model, name))


def reward_trainer(
    job: TrainingJob, *, model: Any, tokenizer: Any, rows: TokenisedRows, principles: Sequence[str]
) -> Any:
    """Return TRL's reward trainer on tokenised pairs.

    Args:
        job: The training.
        model: What `load_reward_start` loaded.
        tokenizer: What `reward_tokenizer` loaded.
        rows: Tokenised pairs.
        principles: One for each output; none where there is one output.
    """
    from datasets import Dataset

    from strop.training.reward_trainer import BradleyTerryTrainer

    columns: dict[str, Any] = {
        "chosen_ids": [row.responses[0] for row in rows.rows],
        "rejected_ids": [row.responses[1] for row in rows.rows],
    }
    if principles:
        columns["signs"] = _signs(job, rows, principles)
    adapter = lora_config(job.settings)
    if adapter is not None:
        adapter.task_type, adapter.modules_to_save = "SEQ_CLS", [head_name(model)]
    return BradleyTerryTrainer(
        separator=separator_of(job, tokenizer),
        model=model,
        args=reward_arguments(job),
        train_dataset=Dataset.from_dict(columns),
        processing_class=tokenizer,
        peft_config=adapter,
    )


def separator_of(job: TrainingJob, tokenizer: Any) -> int | None:
    """Return the id of an encoder's separator; None where the base is no encoder, or one that knows no segments."""
    told = json.loads((job.model / "config.json").read_text(encoding="utf-8"))
    return int(tokenizer.sep_token_id) if is_encoder(job.model) and int(told.get("type_vocab_size") or 0) > 1 else None


def _signs(job: TrainingJob, rows: TokenisedRows, principles: Sequence[str]) -> list[list[float]]:
    """Return, by pair and principle, 1 where the chosen response is rated higher, -1 lower, 0 where it is a tie."""
    rated = {row["id"]: row for row in read_table(job.rows)}
    signs = []
    for row in rows.rows:
        chosen, rejected = (rated[row.id][f"{side}_ratings"] for side in ("chosen", "rejected"))
        differences = [chosen[key] - rejected[key] for key in principles]
        signs.append([float((gap > TIED) - (gap < -TIED)) for gap in differences])
    return signs


def save_reward(
    job: TrainingJob, trainer: Any, tokenizer: Any, principles: Sequence[str], selection: Any | None
) -> None:
    """Write the reward model to ``job.out``: one plain model, its tokenizer, ``reward.json``, the adapter if any."""
    from strop.training.reward_trainer import restore_trained

    if selection is not None:
        restore_trained(trainer.accelerator.unwrap_model(trainer.model), selection.folder)
    lora = job.settings.lora
    folder = job.out / ADAPTER_FOLDER if lora else job.out
    pad = tokenizer.pad_token_id
    trainer.processing_class = None
    trainer.save_model(str(folder))
    if not trainer.accelerator.is_main_process:
        return
    if lora:
        settle_adapter(folder)
    (folder / "training_args.bin").unlink(missing_ok=True)
    if lora:
        from peft import PeftModel

        base = load_reward_start(job, outputs=max(len(principles), 1), pad=pad, full_precision=True)
        merged = PeftModel.from_pretrained(base, folder).merge_and_unload()
        merged.config.get_text_config().pad_token_id = pad
        merged.save_pretrained(job.out)
    copy_tokenizer(job.model, job.out)
    _name_tokens(job.out, tokenizer)
    facts = RewardFacts(
        form=form_of(tokenizer, encoder=is_encoder(job.model)),
        max_length=job.settings.max_length,
        heads=tuple(principles),
        base=job.model.name,
    )
    facts.write(job.out)


def _name_tokens(folder: Path, tokenizer: Any) -> None:
    """Write the padding and the end token that the training used into the folder's tokenizer configuration."""
    file = folder / "tokenizer_config.json"
    told = json.loads(file.read_text(encoding="utf-8"))
    told |= {"pad_token": tokenizer.pad_token, "eos_token": tokenizer.eos_token}
    file.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def pair_scores(
    model: Any, rows: TokenisedRows, *, pad: int, separator: int | None, batch: int = 16
) -> list[tuple[list[float], list[float]]]:
    """Return the outputs for the chosen and the rejected side of every pair.

    Args:
        model: The reward model; it is put in evaluation mode and back.
        rows: Tokenised pairs.
        pad: Id of the padding token.
        separator: Id of an encoder's separator; None for other models.
        batch: Texts in a forward pass.
    """
    import torch

    texts = [text for row in rows.rows for text in row.responses]
    order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
    outputs: dict[int, list[float]] = {}
    training = model.training
    model.eval()
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
        width = len(texts[places[0]])
        ids = torch.full((len(places), width), pad)
        mask = torch.zeros((len(places), width), dtype=torch.long)
        for slot, place in enumerate(places):
            ids[slot, : len(texts[place])] = torch.tensor(texts[place])
            mask[slot, : len(texts[place])] = 1
        named = {"input_ids": ids, "attention_mask": mask}
        if separator is not None:
            named["token_type_ids"] = segments(ids, separator)
        with torch.no_grad():
            logits = model(**{key: value.to(model.device) for key, value in named.items()}).logits.float()
        outputs.update(zip(places, logits.tolist(), strict=True))
    model.train(training)
    return [(outputs[2 * number], outputs[2 * number + 1]) for number in range(len(rows.rows))]


def reward_findings(tokenizer: Any, rows: TokenisedRows, *, total: int) -> list[Finding]:
    """Check tokenised pairs: one end at the end, equal sides, lengths.

    Args:
        tokenizer: What made them.
        rows: What is trained on.
        total: Pairs before the too-long ones were dropped.
    """
    end = tokenizer.eos_token_id
    texts = [text for row in rows.rows for text in row.responses]
    open_ended = sum(text[-1] != end or text[-2] == end for text in texts)
    same = [row.id for row in rows.rows if row.responses[0] == row.responses[1]]
    return [
        Finding(
            name="end token",
            status="fail" if open_ended else "ok",
            value=f"{len(texts) - open_ended} of {len(texts)} texts end with one {tokenizer.eos_token!r}",
            why="the score is read from the end token",
            fix="check the chat template" if open_ended else "",
        ),
        Finding(
            name="identical chosen and rejected",
            status="warn" if same else "ok",
            value=f"{len(same)} of {len(rows.rows)}" + (f" (ids {same[:5]})" if same else ""),
            why="such a pair teaches nothing",
            fix="remove these rows" if same else "",
        ),
        Finding(
            name="rows longer than max_length",
            status="warn" if rows.dropped else "ok",
            value=f"{len(rows.dropped)} dropped, of {total}",
            why="dropping favours short responses",
            fix="raise max_length" if rows.dropped else "",
        ),
    ]


def reward_start(trainer: Any, rows: TokenisedRows, *, pad: int, separator: int | None) -> tuple[float | None, Finding]:
    """Check that the training starts at ln 2: the head is zero, so that every reward is.

    Sharded models cannot be probed here; their first logged loss tells.
    """
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        return None, Finding(name="loss at step 0", status="ok", value="not probed: the model is sharded", why="")
    some = TokenisedRows(rows.rows[:PROBED], (), ())
    loss = bradley_terry_loss(margins_of(pair_scores(trainer.model, some, pad=pad, separator=separator)))
    same = abs(loss - math.log(2)) < START_TOLERANCE
    finding = Finding(
        name="loss at step 0",
        status="ok" if same else "fail",
        value=f"{loss:.6f} (ln 2 = {math.log(2):.6f})",
        why="a head of zeros rewards everything alike",
        fix="" if same else "start from a base model, not from a reward model; remove the work folder",
    )
    return loss, finding


def margins_of(scores: Sequence[tuple[Sequence[float], Sequence[float]]]) -> list[float]:
    """Return r(chosen) - r(rejected) of each pair; the reward is the mean of the outputs."""
    return [fmean(chosen) - fmean(rejected) for chosen, rejected in scores]


def bradley_terry_loss(margins: Sequence[float]) -> float:
    """Return the mean of -log sigmoid(margin) (Bradley and Terry, 1952)."""
    return fmean(softplus(-margin) for margin in margins)


def pair_accuracy(margins: Sequence[float]) -> float:
    """Return the share of pairs whose chosen side has the higher reward; equal rewards count half."""
    return fmean(1.0 if margin > 0 else 0.5 if margin == 0 else 0.0 for margin in margins)


def select_on_development(job: TrainingJob, trainer: Any, tokenizer: Any) -> Any | None:
    """Make the training look at development pairs and keep its best state; None where there are none."""
    if job.development is None:
        return None
    from strop.training.reward_trainer import Selection

    pairs = [PreferencePair.from_row(row) for row in read_table(job.development)]
    lenient = job.model_copy(update={"settings": job.settings.model_copy(update={"too_long_ceiling": 1.0})})
    rows = tokenise_pairs(tokenizer, pairs, lenient)

    def look(model: Any) -> tuple[float, float]:
        margins = margins_of(
            pair_scores(model, rows, pad=tokenizer.pad_token_id, separator=separator_of(job, tokenizer))
        )
        return pair_accuracy(margins), bradley_terry_loss(margins)

    chosen = Selection(every=reward_settings(job).evaluate_steps, look=look, folder=job.work)
    trainer.add_callback(chosen)
    return chosen


def reward_verdict(
    job: TrainingJob, trainer: Any, rows: TokenisedRows, curve: Curve, *, tokenizer: Any, selection: Any | None
) -> list[Finding]:
    """Say whether the model learned to tell the sides apart, and which state was kept."""
    found = []
    if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        some, separator = TokenisedRows(rows.rows[:PROBED], (), ()), separator_of(job, tokenizer)
        scores = pair_scores(trainer.model, some, pad=tokenizer.pad_token_id, separator=separator)
        margins = margins_of(scores)
        flat = max(map(abs, margins)) < TIED
        found.append(
            Finding(
                name="rewards",
                status="warn" if flat else "ok",
                value=f"margins of the first {len(margins)} training pairs: {min(margins):+.3f} to {max(margins):+.3f}",
                why="a reward model that gives equal scores ranks nothing",
                fix="raise the learning rate or train longer" if flat else "",
            )
        )
    if selection is not None and selection.looks:
        best = max(selection.looks, key=lambda look: (look["accuracy"], -look["loss"], -look["step"]))
        told = f"step {best['step']:.0f} of {trainer.state.global_step}: accuracy {best['accuracy']:.3f}"
        why = "the state with the best accuracy on development pairs is kept, by loss where accuracies are equal"
        found.append(Finding(name="chosen state", status="ok", value=told, why=why))
    return [*found, sft_verdict(curve)]
