"""Model folders: parameter counts, adapters and their merge, and what a training leaves in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM

from strop.errors import UserError
from strop.training import TrainingJob, train
from strop.training.weights import load_start, load_tokenizer, parameter_count, settle_adapter

JobMaker = Callable[..., TrainingJob]
LORA = {"lora": {"rank": 2, "alpha": 8}, "learning_rate": 3e-2}
IDS = torch.tensor([[1, 5, 9, 20, 33, 7]])


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits  # type: ignore[no-any-return]


def test_parameters_are_counted_without_loading(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert parameter_count(tiny_model) == sum(parameter.numel() for parameter in model.parameters())


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json"):
        parameter_count(tmp_path)


def test_merged_model_equals_adapter(make_job: JobMaker, tiny_model: Path) -> None:
    """The merged copy's logits are those of base and adapter to 1e-5, and not those of the base."""
    job = make_job("sft", **LORA)
    train(job)
    base = logits(AutoModelForCausalLM.from_pretrained(tiny_model))
    plain = AutoModelForCausalLM.from_pretrained(tiny_model)
    adapted = logits(PeftModel.from_pretrained(plain, job.out / "adapter"))
    merged = logits(AutoModelForCausalLM.from_pretrained(job.out))
    assert (merged - adapted).abs().max() < 1e-5
    assert (merged - base).abs().max() > 0.1


def test_adapter_alone_on_request(make_job: JobMaker) -> None:
    job = make_job("sft", lora={"rank": 2, "merge": False})
    train(job)
    assert (job.out / "adapter" / "adapter_model.safetensors").is_file()
    assert not (job.out / "model.safetensors").exists()


def test_an_adapter_folder_as_start_is_merged_first(make_job: JobMaker) -> None:
    """DPO's reference is the adapted model then, not its base: the margin at step 0 is zero."""
    first = make_job("sft", "first", **LORA)
    train(first)
    adapter = first.out / "adapter"
    job = make_job("dpo", "second", model=adapter, lora={"rank": 2})
    merged = logits(AutoModelForCausalLM.from_pretrained(first.out))
    assert (logits(load_start(adapter, job.settings)) - merged).abs().max() < 1e-5
    outcome = train(job)
    assert outcome.losses[0] == pytest.approx(0.6931472, abs=1e-6)


def test_only_weights_change(make_job: JobMaker, tiny_model: Path) -> None:
    """Configuration, generation settings and tokenizer of the trained folder are those of the start."""
    job = make_job("sft")
    train(job)
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert json.loads((job.out / name).read_text()) == json.loads((tiny_model / name).read_text()), name
    assert sorted(path.suffix for path in job.out.iterdir()) == [".json"] * 4 + [".safetensors"]


def test_a_tokenizer_without_padding_pads_with_its_end(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).pad_token == "</s>"


def test_a_tokenizer_without_an_end_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="no end token"):
        load_tokenizer(tmp_path)


def test_an_adapters_configuration_is_the_same_in_every_process(tmp_path: Path) -> None:
    """PEFT writes its sets in the order of one process's hashes; in order, two processes write the same bytes."""
    written = []
    for number, modules in enumerate((["v_proj", "q_proj", "o_proj"], ["o_proj", "v_proj", "q_proj"])):
        folder = tmp_path / str(number)
        LoraConfig(r=2, target_modules=modules).save_pretrained(folder)
        told = json.loads((folder / "adapter_config.json").read_text())
        told["target_modules"] = modules
        (folder / "adapter_config.json").write_text(json.dumps(told))
        settle_adapter(folder)
        assert set(LoraConfig.from_pretrained(folder).target_modules) == set(modules)
        written.append((folder / "adapter_config.json").read_bytes())
    assert written[0] == written[1]
