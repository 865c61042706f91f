"""Reward models: the loss by hand and against transformers, equal whatever the cutting, chosen by development pairs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from torch.nn.functional import logsigmoid

from strop.errors import UserError
from strop.models.rewards import open_reward
from strop.models.rewards.facts import RewardFacts
from strop.models.rewards.folder import FolderReward
from strop.records.tables import read_table, write_table
from strop.training import RewardSettings, TrainingJob, TrainingOutcome, train
from strop.training.reward import bradley_terry_loss, pair_accuracy
from strop.training.weights import ADAPTER_FOLDER

JobMaker = Callable[..., TrainingJob]
MAX_RESIDUAL = 2e-5
WHOLE = {"batch_size": 32, "micro_batch_size": 32, "max_steps": 2}


@pytest.fixture
def make_reward(tmp_path: Path, tiny_model: Path, pairs: Path) -> JobMaker:
    """Return a maker of reward trainings: ``make_reward("name", heads="principles")``."""

    def make(
        name: str = "one",
        *,
        rows: Path | None = None,
        model: Path | None = None,
        development: Path | None = None,
        **settings: Any,
    ) -> TrainingJob:
        chosen = {"learning_rate": 3e-3, "batch_size": 8, "micro_batch_size": 8, "max_length": 64, "max_steps": 6}
        if "epochs" in settings:
            del chosen["max_steps"]
        return TrainingJob(
            kind="reward",
            model=model or tiny_model,
            rows=rows or pairs,
            development=development,
            out=tmp_path / name / "out",
            work=tmp_path / name / "work",
            settings=RewardSettings.model_validate({**chosen, **settings}),
            seed=7,
        )

    return make


def items(pairs: Path, side: str) -> list[tuple[str, str]]:
    return [(row["prompt"], row[side]) for row in read_table(pairs)]


def assert_same_curve(one: TrainingOutcome, other: TrainingOutcome) -> None:
    assert max(abs(a - b) for a, b in zip(one.losses, other.losses, strict=True)) < MAX_RESIDUAL
    assert one.losses[0] != one.losses[-1]


def test_loss_by_hand() -> None:
    """-log sigmoid(0) = ln 2; margins 1 and -1 give (log(1 + 1/e) + log(1 + e)) / 2 = (0.31326 + 1.31326) / 2."""
    assert bradley_terry_loss([0.0]) == pytest.approx(math.log(2))
    assert bradley_terry_loss([1.0, -1.0]) == pytest.approx(0.81326, abs=1e-5)
    assert bradley_terry_loss([3.0]) < bradley_terry_loss([2.0]) < bradley_terry_loss([0.0])
    assert pair_accuracy([2.0, -1.0, 0.0]) == pytest.approx(0.5)


def test_starts_at_ln_2(make_reward: JobMaker) -> None:
    outcome = train(make_reward())
    assert outcome.step0_loss == pytest.approx(math.log(2), abs=1e-7)
    assert outcome.losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert all(finding.status != "fail" for finding in outcome.findings)


def test_loss_is_bradley_and_terrys(make_reward: JobMaker, pairs: Path) -> None:
    """After a step on all pairs, the next step's loss is that of the model which the step made."""
    one = make_reward("one", **{**WHOLE, "max_steps": 1})
    train(one)
    second = train(make_reward("two", **WHOLE))
    model = open_reward(one.out)
    chosen, rejected = (torch.tensor(model.score(items(pairs, side))) for side in ("chosen", "rejected"))
    # One step of a schedule of one is a full step; of a schedule of two the rate is the same at its first step.
    assert second.losses[1] == pytest.approx(-logsigmoid(chosen - rejected).mean().item(), abs=MAX_RESIDUAL)
    assert second.losses[1] < math.log(2)


def test_swapped_sides_swap_the_sign(make_reward: JobMaker, pairs: Path, tmp_path: Path) -> None:
    swapped = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in read_table(pairs)]
    write_table(tmp_path / "swapped.jsonl", swapped)
    straight, turned = make_reward("straight", **WHOLE), make_reward("turned", rows=tmp_path / "swapped.jsonl", **WHOLE)
    train(straight)
    train(turned)
    margins = []
    for job in (straight, turned):
        model = open_reward(job.out)
        first, second = (model.score(items(pairs, side)) for side in ("chosen", "rejected"))
        margins.append([a - b for a, b in zip(first, second, strict=True)])
    assert fmean(margins[0]) > 0 > fmean(margins[1])


@pytest.mark.parametrize("changes", [{"micro_batch_size": 2}, {"gradient_checkpointing": True}])
def test_what_changes_no_loss(make_reward: JobMaker, changes: dict[str, Any]) -> None:
    assert_same_curve(train(make_reward("plain")), train(make_reward("other", **changes)))


def test_ragged_micro_batches(make_reward: JobMaker) -> None:
    """32 pairs in batches of 20: the last of an epoch holds 12, in micro-batches of 5 the last has 2."""
    batched = train(make_reward("batched", epochs=2, batch_size=20, micro_batch_size=20))
    accumulated = train(make_reward("accumulated", epochs=2, batch_size=20, micro_batch_size=5))
    assert_same_curve(batched, accumulated)


def test_resumed_equals_unbroken(make_reward: JobMaker, pairs: Path) -> None:
    unbroken, broken = make_reward("unbroken", save_steps=2), make_reward("broken", save_steps=2)
    whole = train(unbroken, advance=lambda done, steps: None)

    def stop(done: int, _steps: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(broken, advance=stop)
    resumed = train(broken)
    assert resumed.resumed_at == 4
    assert_same_curve(whole, resumed)
    scores = [open_reward(job.out).score(items(pairs, "chosen")) for job in (unbroken, broken)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_lora_writes_a_plain_model_and_its_adapter(make_reward: JobMaker, pairs: Path) -> None:
    """The merged folder scores as base and adapter do; nothing in it needs PEFT."""
    from peft import AutoPeftModelForSequenceClassification

    job = make_reward(lora={"rank": 2, "alpha": 8})
    train(job)
    model = FolderReward(job.out)
    ids = [model.encode(*item) for item in items(pairs, "chosen")] if hasattr(model, "encode") else None
    scores = model.score(items(pairs, "chosen"))
    assert len(set(scores)) > 1
    adapter = AutoPeftModelForSequenceClassification.from_pretrained(job.out / ADAPTER_FOLDER, num_labels=1).eval()
    adapter.config.pad_token_id = model.tokenizer.pad_token_id
    prompt, response = items(pairs, "chosen")[0]
    text = model.tokenizer(f"{prompt} {response}</s>" if ids is None else "", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert adapter(input_ids=text).logits.item() == pytest.approx(scores[0], abs=1e-4)


def test_the_best_state_on_development_pairs_is_kept(make_reward: JobMaker, pairs: Path, tmp_path: Path) -> None:
    """Development pairs with the sides exchanged: every step makes them worse, so the first look is the best."""
    swapped = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in read_table(pairs)]
    write_table(tmp_path / "development.jsonl", swapped)
    job = make_reward(development=tmp_path / "development.jsonl", evaluate_steps=1, max_steps=12)
    outcome = train(job)
    looks = json.loads((job.work / "looks.json").read_text())
    best = max(looks, key=lambda look: (look["accuracy"], -look["loss"], -look["step"]))
    assert best["step"] < 12
    model = open_reward(job.out)
    chosen, rejected = (model.score(items(tmp_path / "development.jsonl", side)) for side in ("chosen", "rejected"))
    margins = [a - b for a, b in zip(chosen, rejected, strict=True)]
    assert pair_accuracy(margins) == pytest.approx(best["accuracy"])
    assert bradley_terry_loss(margins) == pytest.approx(best["loss"], abs=1e-5)
    assert any(finding.name == "chosen state" for finding in outcome.findings)


def rated(pairs: Path, file: Path) -> Path:
    rows = [
        {**row, "chosen_ratings": {"warm": 4 + row["id"] % 2, "safe": 3}, "rejected_ratings": {"warm": 2, "safe": 3}}
        for row in read_table(pairs)
    ]
    write_table(file, rows)
    return file


def test_one_head_a_principle_and_their_mean(make_reward: JobMaker, pairs: Path, tmp_path: Path) -> None:
    """`safe` is a tie everywhere: its head learns from the mean alone."""
    job = make_reward(rows=rated(pairs, tmp_path / "rated.jsonl"), heads="principles")
    outcome = train(job)
    assert outcome.losses[0] == pytest.approx(2 * math.log(2), abs=1e-6)
    assert RewardFacts.read(job.out).heads == ("warm", "safe")
    model = FolderReward(job.out)
    by_head = model.score_heads(items(pairs, "chosen"))
    means = [fmean(values) for values in zip(*by_head.values(), strict=True)]
    assert model.score(items(pairs, "chosen")) == pytest.approx(means, abs=1e-6)


def test_principles_need_ratings(make_reward: JobMaker) -> None:
    with pytest.raises(UserError, match="without ratings"):
        train(make_reward(heads="principles"))


def test_centred_rewards_are_smaller(make_reward: JobMaker, pairs: Path) -> None:
    sizes = []
    for weight in (0.0, 1.0):
        job = make_reward(f"w{weight}", center_rewards=weight, max_steps=20)
        train(job)
        model = open_reward(job.out)
        sums = [
            a + b for a, b in zip(*(model.score(items(pairs, side)) for side in ("chosen", "rejected")), strict=True)
        ]
        sizes.append(fmean(map(abs, sums)))
    assert sizes[1] < sizes[0]


def test_an_encoder_learns_too(make_reward: JobMaker, tiny_encoder: Path, tmp_path: Path) -> None:
    """A planted signal: the better response says `glad`, the worse `angry`; an encoder reads pairs of segments."""
    rows = [
        {"id": n, "prompt": "i feel tired", "chosen": f"you feel glad {'.' * (n % 3)}", "rejected": "you feel angry"}
        for n in range(16)
    ]
    write_table(tmp_path / "rows.jsonl", rows)
    job = make_reward(rows=tmp_path / "rows.jsonl", model=tiny_encoder, max_steps=15)
    train(job)
    model = open_reward(job.out)
    assert RewardFacts.read(job.out).form == "pair"
    good, bad = model.score([("i think", "be glad"), ("i think", "be angry")])
    assert good > bad


def test_long_pairs_follow_the_house_rule(make_reward: JobMaker, pairs: Path) -> None:
    with pytest.raises(UserError, match="longer than max_length"):
        train(make_reward(max_length=8))
    outcome = train(make_reward("some", max_length=14, too_long_ceiling=1.0))
    assert 0 < outcome.dropped < 32
    with pytest.raises(ValueError, match="too_long"):
        make_reward("cut", too_long="truncate")


def test_shuffled_labels_teach_nothing_that_holds(make_reward: JobMaker, pairs: Path, tmp_path: Path) -> None:
    """Random tokens carry no signal: on fresh pairs of the same kind the model is near a coin."""
    rows = read_table(pairs)
    write_table(tmp_path / "train.jsonl", rows[:20])
    write_table(tmp_path / "fresh.jsonl", rows[20:])
    job = make_reward(rows=tmp_path / "train.jsonl", max_steps=10)
    train(job)
    model = open_reward(job.out)
    scores = [model.score(items(tmp_path / "fresh.jsonl", side)) for side in ("chosen", "rejected")]
    assert 0.1 < pair_accuracy([a - b for a, b in zip(*scores, strict=True)]) < 0.9


def test_an_encoder_without_segments(make_reward: JobMaker, tiny_encoder: Path, tmp_path: Path) -> None:
    """As RoBERTa: one kind of token; it trains and scores without being told of segments."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    folder = tmp_path / "single"
    config = BertConfig.from_pretrained(tiny_encoder, type_vocab_size=1)
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_encoder).save_pretrained(folder)
    rows = [{"id": n, "prompt": "i feel", "chosen": "be glad", "rejected": "be angry"} for n in range(8)]
    write_table(tmp_path / "rows.jsonl", rows)
    job = make_reward(rows=tmp_path / "rows.jsonl", model=folder, max_steps=2)
    train(job)
    assert len(open_reward(job.out).score([("i think", "be glad")])) == 1


def test_another_training_does_not_inherit_a_best_state(make_reward: JobMaker, pairs: Path, tmp_path: Path) -> None:
    """The work folder of a finished training without checkpoints is taken over: its looks are not the new one's."""
    write_table(tmp_path / "development.jsonl", read_table(pairs)[:8])
    first = make_reward(development=tmp_path / "development.jsonl", evaluate_steps=1, max_steps=12)
    train(first)
    second = make_reward(development=tmp_path / "development.jsonl", evaluate_steps=1, max_steps=3)
    train(second)
    assert [look["step"] for look in json.loads((second.work / "looks.json").read_text())] == [1, 2, 3]
