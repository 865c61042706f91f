"""One adapter, trained on in several jobs: what online DPO does between its rounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from strop.errors import UserError
from strop.training import Launcher, TrainingJob, train
from strop.training.rendering import tokenise
from strop.training.running import read_rows
from strop.training.weights import load_tokenizer

JobMaker = Callable[..., TrainingJob]
ALONE: dict[str, Any] = {"lora": {"rank": 2, "alpha": 8, "merge": False}, "learning_rate": 3e-2}
WHOLE: dict[str, Any] = {"batch_size": 32, "micro_batch_size": 32, "max_steps": 2}


def go_on(job: TrainingJob, *, adapter: Path, reference: Path | None) -> TrainingJob:
    return TrainingJob.model_validate({**job.model_dump(), "adapter": adapter, "reference": reference})


def margins(policy: Any, reference: Any, job: TrainingJob) -> torch.Tensor:
    """(log pi(y_w) - log ref(y_w)) - (log pi(y_l) - log ref(y_l)) of each pair, one unpadded sequence at a time."""
    rows = tokenise(load_tokenizer(job.model), read_rows(job.rows, job.kind), job.settings).rows
    values = []
    for row in rows:
        sides = []
        for response in row.responses:
            ids = torch.tensor([row.prompt_ids + response])
            start = len(row.prompt_ids) - 1
            with torch.no_grad():
                scored = [model(ids).logits[0, start:-1].log_softmax(-1) for model in (policy, reference)]
            picked = [one.gather(1, torch.tensor(response)[:, None]).sum() for one in scored]
            sides.append(picked[0] - picked[1])
        values.append(sides[0] - sides[1])
    return torch.stack(values)


def test_dpo_goes_on_with_its_adapter(make_job: JobMaker, tiny_model: Path) -> None:
    """The second job's first loss is that of base and adapter against the base, and its adapter is one on the base."""
    first = make_job("dpo", "first", **{**ALONE, **WHOLE})
    train(first)
    adapter = first.out / "adapter"
    second = go_on(make_job("dpo", "second", **{**ALONE, **WHOLE}), adapter=adapter, reference=tiny_model)
    outcome = train(second)
    base = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    policy = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), adapter).eval()
    expected = -torch.nn.functional.logsigmoid(0.1 * margins(policy, base, second)).mean().item()
    assert expected < math.log(2) - 0.01
    assert outcome.losses[0] == pytest.approx(expected, abs=2e-5)
    assert outcome.losses[1] < outcome.losses[0]
    assert sorted(path.name for path in (second.out / "adapter").glob("*adapter*")) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    further = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), second.out / "adapter").eval()
    assert margins(further, base, second).mean() > margins(policy, base, second).mean()


def test_merged_copy_is_base_and_adapter(make_job: JobMaker, tiny_model: Path) -> None:
    first = make_job("dpo", "first", **{**ALONE, **WHOLE})
    train(first)
    merging = make_job("dpo", "second", **{**ALONE, **WHOLE, "lora": {"rank": 2, "alpha": 8}})
    second = go_on(merging, adapter=first.out / "adapter", reference=tiny_model)
    train(second)
    ids = torch.tensor([[1, 5, 9, 20, 33, 7]])
    with torch.no_grad():
        merged = AutoModelForCausalLM.from_pretrained(second.out).eval()(ids).logits
        base = AutoModelForCausalLM.from_pretrained(tiny_model)
        adapted = PeftModel.from_pretrained(base, second.out / "adapter").eval()(ids).logits
    assert (merged - adapted).abs().max() < 1e-5


def test_supervised_training_goes_on(make_job: JobMaker) -> None:
    """All 64 rows in every step: the second job starts where the first one ended."""
    settings = {**ALONE, "batch_size": 64, "micro_batch_size": 64, "max_steps": 2}
    first = make_job("sft", "first", **settings)
    losses = train(first).losses
    further = train(go_on(make_job("sft", "second", **settings), adapter=first.out / "adapter", reference=None))
    assert further.losses[0] < losses[1] < losses[0]


def test_an_adapter_is_resumed_from_a_checkpoint(make_job: JobMaker, tiny_model: Path) -> None:
    """A job that is stopped in its middle ends with the adapter of one that was not."""
    first = make_job("dpo", "first", **ALONE)
    train(first)

    def second(name: str) -> TrainingJob:
        job = make_job("dpo", name, save_steps=2, **ALONE)
        return go_on(job, adapter=first.out / "adapter", reference=tiny_model)

    whole, stopped = second("whole"), second("stopped")
    train(whole)

    class Stop(Exception):
        pass

    def stop(done: int, _steps: int) -> None:
        if done == 5:
            raise Stop

    with pytest.raises(Stop):
        train(stopped, advance=stop)
    assert train(stopped).resumed_at == 4
    weights = [(job.out / "adapter" / "adapter_model.safetensors").read_bytes() for job in (whole, stopped)]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_two_processes_equal_one(make_job: JobMaker, tiny_model: Path) -> None:
    """Each process loads the reference, scores its share with it and drops it."""
    first = make_job("dpo", "first", **ALONE)
    train(first)
    outcomes = []
    for name, processes, micro in (("single", 1, 8), ("double", 2, 4)):
        job = make_job("dpo", name, micro_batch_size=micro, **ALONE)
        launcher = Launcher(processes=processes) if processes > 1 else Launcher(mode="inline")
        outcomes.append(train(go_on(job, adapter=first.out / "adapter", reference=tiny_model), launcher=launcher))
    single, double = (outcome.losses for outcome in outcomes)
    assert single == pytest.approx(double, abs=2e-5)


def test_an_adapter_of_another_rank(make_job: JobMaker, tiny_model: Path) -> None:
    first = make_job("dpo", "first", **ALONE)
    train(first)
    other = make_job("dpo", "second", **{**ALONE, "lora": {"rank": 4, "alpha": 8}})
    with pytest.raises(UserError, match="another 'r'"):
        train(go_on(other, adapter=first.out / "adapter", reference=tiny_model))


def test_no_adapter_there(make_job: JobMaker, tiny_model: Path) -> None:
    with pytest.raises(UserError, match="adapter"):
        train(go_on(make_job("dpo", **ALONE), adapter=tiny_model, reference=tiny_model))


@pytest.mark.parametrize(("kind", "settings", "message"), [("dpo", {}, "'lora'"), ("dpo", ALONE, "'reference'")])
def test_what_an_adapter_needs(
    make_job: JobMaker, tiny_model: Path, kind: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        go_on(make_job(kind, **settings), adapter=tiny_model, reference=None)
