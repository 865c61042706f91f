"""Going on with pre-training a model whose tokens choose their heads: the load balance joins the gradient."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.conftest import WORDS
from tests.training.test_equivalence import assert_same_curve, kill_at

from strop.heads.conversion import ROUTERS, convert
from strop.heads.layout import HeadLayout
from strop.heads.modeling import MoHSettings
from strop.records.tables import write_table
from strop.training import ContinueSettings, TrainingJob, train
from strop.training.continuing import prepare
from strop.training.weights import load_start

HeadsJob = Callable[..., TrainingJob]
LAYOUT = HeadLayout(query_heads=4, kv_groups=2, shared=(), active=2, choice="free")


@pytest.fixture(scope="session")
def routed_model(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The tiny Llama, 2 of 4 heads a token, with small random routers."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("routed") / "model"
    convert(tiny_model, MoHSettings(layers=(LAYOUT, LAYOUT), router="learned", backend="gathered"), folder)
    weights = load_file(folder / ROUTERS)
    generator = torch.Generator().manual_seed(0)
    drawn = {name: 0.1 * torch.randn(weight.shape, generator=generator) for name, weight in weights.items()}
    save_file(drawn, folder / ROUTERS, metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def same_blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen times the same seven words: with the end token, sixteen equal blocks of eight."""
    file = tmp_path_factory.mktemp("same") / "documents.jsonl"
    write_table(file, [{"id": number, "text": " ".join(WORDS[3:10])} for number in range(16)])
    return file


@pytest.fixture
def heads_job(tmp_path: Path, routed_model: Path, same_blocks: Path) -> HeadsJob:
    def make(name: str = "one", *, model: Path | None = None, rows: Path | None = None, **given: Any) -> TrainingJob:
        settings = {"learning_rate": 3e-3, "batch_size": 8, "micro_batch_size": 8, "max_length": 8, "max_steps": 6}
        return TrainingJob.model_validate(
            {
                "kind": "continue",
                "model": model or routed_model,
                "rows": rows or same_blocks,
                "out": tmp_path / name / "out",
                "work": tmp_path / name / "work",
                "settings": ContinueSettings.model_validate(settings | {"balance": 0.5} | given),
                "seed": 7,
            }
        )

    return make


def gradients(job: TrainingJob) -> dict[str, torch.Tensor]:
    """Return the gradient of one optimiser step, clipping off, as the trainer makes it."""
    ready = prepare(job)
    caught: dict[str, torch.Tensor] = {}
    trainer = ready.trainer
    step = trainer.accelerator.clip_grad_norm_

    def catch(*given: Any, **named: Any) -> Any:
        for name, weight in trainer.model.named_parameters():
            if weight.grad is not None:
                caught[name] = weight.grad.clone()
        return step(*given, **named)

    trainer.accelerator.clip_grad_norm_ = catch
    trainer.train()
    return caught


def test_accumulated_equals_batched_with_the_load_balance(heads_job: HeadsJob) -> None:
    """Equal micro-batches have the batch's own P and f.

    So eight blocks at once, and two at a time four times over, give the same gradient, the load balance's included.
    """
    batched = gradients(heads_job("batched", max_steps=1))
    accumulated = gradients(heads_job("accumulated", max_steps=1, micro_batch_size=2))
    without = gradients(heads_job("without", max_steps=1, balance=0.0))
    assert set(batched) == set(accumulated)
    for name, gradient in batched.items():
        torch.testing.assert_close(accumulated[name], gradient, rtol=1e-4, atol=1e-7)
    router = "model.layers.0.self_attn.router.routed.weight"
    assert not torch.allclose(batched[router], without[router], rtol=1e-2)


def test_the_load_balance_gradient_is_the_terms_own(heads_job: HeadsJob, routed_model: Path) -> None:
    """What the trainer adds to a router's gradient is beta times that of the mean over layers of E sum P f."""
    from strop.heads.balance import load_balance
    from strop.heads.routers import LearnedRouter
    from strop.training.blocks import block_ids

    job = heads_job("with", max_steps=1)
    ready = prepare(job)
    ids = torch.tensor([block_ids(row) for row in ready.rows.rows[:8]])
    model = load_start(routed_model, job.settings)
    model.train()
    model.moh_balance.coefficient = 0.0
    values: list[torch.Tensor] = []
    for router in (module for module in model.modules() if isinstance(module, LearnedRouter)):
        router.register_forward_hook(
            lambda _, __, told: values.append(load_balance(told.probability_bnce, told.picked_bnce))
        )
    loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    (loss + 0.5 * torch.stack(values).mean()).backward()
    told = gradients(heads_job("told", max_steps=1))
    for name, weight in model.named_parameters():
        if ".router." in name:
            torch.testing.assert_close(told[name], weight.grad, rtol=1e-4, atol=1e-7)


def test_checkpointed_equals_plain(heads_job: HeadsJob) -> None:
    """Recomputing a layer neither doubles nor loses its load balance."""
    plain, recomputed = train(heads_job("plain")), train(heads_job("recomputed", gradient_checkpointing=True))
    assert_same_curve(plain, recomputed)
    assert [step["balance"] for step in plain.curve] == pytest.approx([step["balance"] for step in recomputed.curve])


def test_resumed_equals_unbroken(heads_job: HeadsJob) -> None:
    settings = {"max_steps": 12, "save_steps": 3, "micro_batch_size": 4, "router_rate": 0.1}
    unbroken, broken = heads_job("unbroken", **settings), heads_job("broken", **settings)
    expected = train(unbroken)
    kill_at(broken, 8)
    outcome = train(broken)
    assert outcome.resumed_at == 6
    assert outcome.curve == expected.curve
    assert (broken.out / "model.safetensors").read_bytes() == (unbroken.out / "model.safetensors").read_bytes()
    told = json.loads((broken.out / "config.json").read_text())
    assert told["model_type"] == "moh_llama"
    assert told["moh"]["layers"][0] == {"shared": [], "active": 2, "choice": "free"}


def test_routers_have_their_own_rate(heads_job: HeadsJob, routed_model: Path) -> None:
    """One step of Adam moves a weight by its rate: routers by a hundredth of what the others move."""
    job = heads_job("slow", max_steps=1, learning_rate=1e-3, router_rate=0.01, schedule="constant")
    train(job)
    before, after = (load_start(folder, job.settings).state_dict() for folder in (routed_model, job.out))
    moved = {name: (after[name] - before[name]).abs().max().item() for name in before}
    assert moved["model.layers.0.self_attn.router.routed.weight"] == pytest.approx(1e-5, rel=0.05)
    assert moved["model.layers.0.self_attn.q_proj.weight"] == pytest.approx(1e-3, rel=0.05)


def test_a_pruned_model_trains_and_keeps_its_heads(heads_job: HeadsJob, tmp_path: Path, tiny_model: Path) -> None:
    """Static pruning is a layout without a choice: no balance is logged, and the heads left out learn nothing."""
    pruned = HeadLayout(query_heads=4, kv_groups=2, shared=(0, 2), active=0)
    folder = tmp_path / "pruned"
    convert(tiny_model, MoHSettings(layers=(pruned, pruned), backend="gathered"), folder)
    job = heads_job("pruned", model=folder)
    outcome = train(job)
    assert all("balance" not in step for step in outcome.curve)
    before, after = (load_start(each, job.settings).state_dict() for each in (folder, job.out))
    name = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(before[name][12:24], after[name][12:24])
    assert not torch.equal(before[name][:12], after[name][:12])


def test_adapters_leave_routers_alone_and_it_is_said(heads_job: HeadsJob, routed_model: Path) -> None:
    """With LoRA the merged model has the start's routers, bit for bit, and other projections; a finding warns."""
    job = heads_job("lora", lora={"rank": 2})
    outcome = train(job)
    (told,) = [finding for finding in outcome.findings if finding.name == "routers"]
    assert told.status == "warn"
    plain = job.settings.model_copy(update={"lora": None})
    before, after = (load_start(folder, plain).state_dict() for folder in (routed_model, job.out))
    router, query = (f"model.layers.0.self_attn.{name}.weight" for name in ("router.routed", "q_proj"))
    assert torch.equal(before[router], after[router])
    assert not torch.equal(before[query], after[query])
