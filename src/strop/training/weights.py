"""Model folders: counting parameters without loading them, loading a start, saving what was trained."""

from __future__ import annotations

import json
import math
import shutil
import struct
from pathlib import Path
from typing import Any

from strop.errors import UserError
from strop.models.weights import IDENTITY_PATTERNS, check_folder, folder_revision
from strop.training.settings import TrainingSettings

MODEL_FILES = ("config.json", "generation_config.json")
ADAPTER_CONFIG = "adapter_config.json"
"""File that tells an adapter's folder from a whole model's."""
ADAPTER_FOLDER = "adapter"
"""Where a LoRA training leaves its adapter, inside the folder it writes."""


def plain_model(model: Path) -> Path:
    """Return the folder of whole weights behind a start: itself, or an adapter's base.

    Raises:
        UserError: It holds no model in safetensors.
    """
    told = model / ADAPTER_CONFIG
    if not told.is_file():
        check_folder(model)
        return model
    base = Path(json.loads(told.read_text(encoding="utf-8"))["base_model_name_or_path"])
    if not base.is_dir():
        raise UserError(
            "an adapter's base model is not where it was",
            value=str(base),
            fix=f"set base_model_name_or_path in {told}, or start from a merged model",
        )
    return base


def start_revision(model: Path) -> str:
    """Return a hash of all files that make the start: of the folder, and of the base where it holds an adapter."""
    return " ".join(folder_revision(folder) for folder in dict.fromkeys((model, plain_model(model))))


def parameter_count(model: Path) -> int:
    """Return the number of parameters of a start, read from the headers of its safetensors files.

    Raises:
        UserError: The folder holds no model in safetensors.
    """
    return sum(map(_count, sorted(plain_model(model).glob("*.safetensors"))))


def _count(file: Path) -> int:
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def load_tokenizer(model: Path) -> Any:
    """Return the folder's tokenizer with a padding token.

    Padding is masked by position and never by id, so the end token may serve where the folder names no padding token.
    """
    from transformers import AutoTokenizer

    import strop.heads  # noqa: F401  # makes transformers know models with routed heads

    tokenizer = AutoTokenizer.from_pretrained(model)
    if tokenizer.eos_token_id is None:
        raise UserError(
            "the tokenizer has no end token",
            value=str(model),
            why="a model that never sees one in training never stops",
            fix="set eos_token in the folder's tokenizer_config.json",
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def copy_tokenizer(start: Path, folder: Path) -> None:
    """Copy the tokenizer's files as they are: loading and saving one adds traces of how it was loaded."""
    for path in sorted(start.iterdir()):
        named = any(path.match(pattern) for pattern in IDENTITY_PATTERNS)
        if named and path.name not in MODEL_FILES and ".safetensors" not in path.name:
            shutil.copyfile(path, folder / path.name)


def load_start(model: Path, settings: TrainingSettings) -> Any:
    """Return the model that a training starts from; an adapter folder is merged into its base.

    Merging makes the start one plain model: it is then also what DPO's reference is, adapters and all.
    Weights are fp32, but for frozen ones under ``lora`` with ``precision: bf16``.
    """
    import torch
    from transformers import AutoModelForCausalLM

    import strop.heads  # noqa: F401  # makes transformers know models with routed heads

    frozen_half = settings.lora is not None and settings.precision == "bf16"
    dtype = torch.bfloat16 if frozen_half else torch.float32
    if (model / ADAPTER_CONFIG).is_file():
        from peft import AutoPeftModelForCausalLM

        return AutoPeftModelForCausalLM.from_pretrained(model, dtype=torch.float32).merge_and_unload().to(dtype)
    return AutoModelForCausalLM.from_pretrained(model, dtype=dtype)


def lora_config(settings: TrainingSettings) -> Any:
    """Return PEFT's configuration of `settings.lora`, or None for full fine-tuning."""
    if settings.lora is None:
        return None
    from peft import LoraConfig

    targets = settings.lora.target_modules
    return LoraConfig(
        r=settings.lora.rank,
        lora_alpha=settings.lora.alpha,
        lora_dropout=settings.lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )


def attach_adapter(model: Any, settings: TrainingSettings) -> Any:
    """Return `model` with fresh adapters, or as it is where all weights are trained."""
    config = lora_config(settings)
    if config is None:
        return model
    from peft import get_peft_model

    return get_peft_model(model, config)


def resume_adapter(model: Any, adapter: Path, settings: TrainingSettings) -> Any:
    """Return `model` with a trained adapter attached, to be trained further.

    Raises:
        UserError: The folder holds no adapter, or one of another rank or scale than `settings` ask for.
    """
    from peft import PeftConfig, PeftModel

    if not (adapter / ADAPTER_CONFIG).is_file():
        raise UserError(
            "no adapter to go on with", value=str(adapter), fix=f"give the folder that holds {ADAPTER_CONFIG}"
        )
    wanted, found = lora_config(settings), PeftConfig.from_pretrained(adapter)
    for name in ("r", "lora_alpha"):
        if getattr(found, name, None) != getattr(wanted, name):
            raise UserError(
                f"the adapter to go on with has another {name!r}",
                value=getattr(found, name, None),
                why=f"the settings ask for {getattr(wanted, name)}",
                fix="train on with the settings that the adapter was made with",
            )
    return PeftModel.from_pretrained(model, adapter, is_trainable=True)


def settle_adapter(adapter: Path) -> None:
    """Put the lists of an adapter's configuration in order: PEFT holds sets, which every process orders anew."""
    told = adapter / ADAPTER_CONFIG
    content = json.loads(told.read_text(encoding="utf-8"))
    ordered = {
        name: sorted(value) if isinstance(value, list) and all(isinstance(each, str) for each in value) else value
        for name, value in content.items()
    }
    told.write_text(json.dumps(ordered, indent=2, sort_keys=True), encoding="utf-8")


def merge(start: Path, adapter: Path, out: Path) -> None:
    """Write `start` with `adapter` merged into it to `out`.

    The merge is computed in fp32 and stored in the start's own precision: merging rounded weights degrades the model.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoConfig

    from strop.models.batching import quiet_transformers

    stored = AutoConfig.from_pretrained(plain_model(start)).dtype or torch.float32
    with quiet_transformers():
        base = load_start(start, TrainingSettings(learning_rate=1.0, max_steps=1))
        merged = PeftModel.from_pretrained(base, adapter).merge_and_unload()
        merged.to(stored).save_pretrained(out)


def merged_folder(start: Path, adapter: Path, folder: Path) -> Path:
    """Return `folder` with `start`, `adapter` merged into it and the tokenizer: made whole or not at all, and once."""
    if not folder.is_dir():
        part = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        merge(start, adapter, part)
        copy_tokenizer(start, part)
        part.rename(folder)
    return folder
