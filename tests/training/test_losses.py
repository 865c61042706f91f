"""DPO and ORPO against the papers' formulas, computed here from logits, at step 0 and after a step."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from strop.training import LoraSettings, TrainingJob, train
from strop.training.probe import odds_ratio_loss, preference_loss, softplus
from strop.training.rendering import TokenisedRow, tokenise
from strop.training.running import read_rows
from strop.training.weights import load_tokenizer

JobMaker = Callable[..., TrainingJob]


def log_probs(folder: Path, rows: tuple[TokenisedRow, ...]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Log-probabilities of the tokens of chosen and rejected responses, one unpadded sequence at a time."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    scored = []
    for row in rows:
        sides = []
        for response in row.responses:
            ids = torch.tensor([row.prompt_ids + response])
            labels = torch.tensor([[-100] * len(row.prompt_ids) + response])
            with torch.no_grad():
                logits = model(ids).logits
            losses = functional.cross_entropy(logits[0, :-1], labels[0, 1:], reduction="none", ignore_index=-100)
            sides.append(-losses[-len(response) :])
        scored.append((sides[0], sides[1]))
    return scored


def all_pairs(job: TrainingJob) -> tuple[TokenisedRow, ...]:
    return tokenise(load_tokenizer(job.model), read_rows(job.rows, job.kind), job.settings).rows


WHOLE = {"batch_size": 32, "micro_batch_size": 32, "max_steps": 2, "save_steps": 1}
"""All 32 pairs in every step, so that the order of rows does not matter; the weights after step 1 are kept."""


def after_one_step(job: TrainingJob) -> Path:
    return job.work / "checkpoints" / "checkpoint-1"


def test_dpo_starts_at_ln_2(make_job: JobMaker) -> None:
    outcome = train(make_job("dpo"))
    assert outcome.losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert outcome.step0_loss == pytest.approx(math.log(2), abs=1e-6)
    assert abs(outcome.curve[0]["rewards/margins"]) < 1e-5


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_dpo_is_equation_7(make_job: JobMaker, beta: float) -> None:
    """After a step, -log sigmoid(beta ((pi_w - ref_w) - (pi_l - ref_l))) on summed log-probabilities."""
    job = make_job("dpo", beta=beta, **WHOLE)
    outcome = train(job)
    rows = all_pairs(job)
    policy, reference = log_probs(after_one_step(job), rows), log_probs(job.model, rows)
    margins = torch.stack(
        [(pw.sum() - rw.sum()) - (pl.sum() - rl.sum()) for (pw, pl), (rw, rl) in zip(policy, reference, strict=True)]
    )
    expected = -functional.logsigmoid(beta * margins).mean().item()
    assert expected < math.log(2) - 0.01
    assert outcome.losses[1] == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=2)])
def test_dpo_against_another_reference(make_job: JobMaker, tiny_model: Path, lora: LoraSettings | None) -> None:
    """A second training starts at the first one's model; its reference stays the model that the first started from."""
    first = make_job("dpo", "first", **WHOLE)
    train(first)
    second = make_job("dpo", "second", model=first.out, lora=lora, **{**WHOLE, "save_steps": 0})
    outcome = train(second.model_copy(update={"reference": tiny_model}))
    rows = all_pairs(second)
    policy, reference = log_probs(first.out, rows), log_probs(tiny_model, rows)
    margins = torch.stack(
        [(pw.sum() - rw.sum()) - (pl.sum() - rl.sum()) for (pw, pl), (rw, rl) in zip(policy, reference, strict=True)]
    )
    expected = -functional.logsigmoid(0.1 * margins).mean().item()
    assert expected < math.log(2) - 0.01
    assert outcome.losses[0] == pytest.approx(expected, abs=2e-5)
    assert outcome.step0_loss == pytest.approx(-functional.logsigmoid(0.1 * margins[:16]).mean().item(), abs=2e-5)


def test_only_dpo_has_a_reference(make_job: JobMaker, tiny_model: Path) -> None:
    told = make_job("orpo").model_dump()
    with pytest.raises(ValueError, match="no reference"):
        TrainingJob.model_validate({**told, "reference": tiny_model})


def test_dpo_with_likelihood_of_the_chosen(make_job: JobMaker) -> None:
    """The added term is the negative log-likelihood per token of the chosen responses of the batch."""
    job = make_job("dpo", sft_weight=0.5, **WHOLE)
    outcome = train(job)
    chosen = torch.cat([chosen for chosen, _ in log_probs(job.model, all_pairs(job))])
    assert outcome.losses[0] == pytest.approx(math.log(2) - 0.5 * chosen.mean().item(), abs=2e-5)


@pytest.mark.parametrize("step", [0, 1])
def test_orpo_is_equation_6(make_job: JobMaker, step: int) -> None:
    """Mean over pairs of -log p_w - beta log sigmoid(log odds ratio), p the geometric mean of token probabilities."""
    job = make_job("orpo", beta=0.3, **WHOLE)
    outcome = train(job)
    pairs = log_probs(after_one_step(job) if step else job.model, all_pairs(job))
    losses = []
    for chosen, rejected in pairs:
        odds = [p / (1 - p) for p in (chosen.mean().exp(), rejected.mean().exp())]
        losses.append(-chosen.mean() - 0.3 * functional.logsigmoid(torch.log(odds[0] / odds[1])))
    assert outcome.losses[step] == pytest.approx(torch.stack(losses).mean().item(), abs=2e-5)


def test_orpo_over_the_sequence_is_trl_definition(make_job: JobMaker) -> None:
    """TRL's likelihood term: all tokens of prompt and chosen response but the first, averaged over the micro-batch."""
    job = make_job("orpo", beta=0.3, nll_over="sequence", **WHOLE)
    outcome = train(job)
    rows = all_pairs(job)
    whole = tuple(
        TokenisedRow(row.id, row.prompt_ids[:1], (row.prompt_ids[1:] + row.responses[0],) * 2) for row in rows
    )
    tokens = torch.cat([chosen for chosen, _ in log_probs(job.model, whole)])
    means = [(chosen.mean(), rejected.mean()) for chosen, rejected in log_probs(job.model, rows)]
    ratios = [torch.log(c.exp() / (1 - c.exp())) - torch.log(r.exp() / (1 - r.exp())) for c, r in means]
    expected = -tokens.mean() - 0.3 * functional.logsigmoid(torch.stack(ratios)).mean()
    assert outcome.losses[0] == pytest.approx(expected.item(), abs=2e-5)


def test_probe_losses_by_hand() -> None:
    """Hand-worked: margin ln 3 at beta 1 gives log(1 + 1/3); odds 1/1 against 1/3 give ln 2 + log(4/3) at beta 1."""
    loss, margin = preference_loss([(math.log(3), 0.0)], [(0.0, 0.0)], beta=1.0)
    assert loss == pytest.approx(math.log(4 / 3))
    assert margin == pytest.approx(math.log(3))
    row = TokenisedRow(0, [1], ([2, 3], [4]))
    loss = odds_ratio_loss([(2 * math.log(0.5), math.log(0.25))], [row], beta=1.0)
    assert loss == pytest.approx(math.log(2) + math.log(4 / 3))
    assert softplus(1000.0) == 1000.0
    assert softplus(-1000.0) == 0.0


def test_length_normalised_dpo_compares_per_token(make_job: JobMaker) -> None:
    """Each log-ratio is divided by its response's tokens before the sigmoid."""
    job = make_job("dpo", length_normalised=True, beta=2.0, **WHOLE)
    outcome = train(job)
    rows = all_pairs(job)
    policy, reference = log_probs(after_one_step(job), rows), log_probs(job.model, rows)
    margins = torch.stack(
        [(pw - rw).mean() - (pl - rl).mean() for (pw, pl), (rw, rl) in zip(policy, reference, strict=True)]
    )
    assert outcome.losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert outcome.losses[1] == pytest.approx(-functional.logsigmoid(2.0 * margins).mean().item(), abs=2e-5)


def test_beta_scales_the_implicit_reward(make_job: JobMaker, tiny_model: Path) -> None:
    """Beta x log(pi / ref): the same policy and reference, logged at beta 1 and at beta 0.1."""
    first = make_job("dpo", "first", **WHOLE)
    train(first)
    curves = []
    for beta in (1.0, 0.1):
        job = make_job("dpo", f"beta{beta}", model=first.out, beta=beta, **{**WHOLE, "save_steps": 0})
        curves.append(train(job.model_copy(update={"reference": tiny_model})).curve[0])
    for key in ("rewards/chosen", "rewards/rejected", "rewards/margins"):
        assert abs(curves[0][key]) > 0.05
        assert curves[0][key] == pytest.approx(10 * curves[1][key], rel=1e-4)
