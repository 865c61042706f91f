"""Model folders: counting parameters without loading them, loading a start, saving what was trained."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

from strop.errors import UserError
from strop.models.weights import check_folder
from strop.training.settings import TrainingSettings

ADAPTER_FOLDER = "adapter"
"""Where a LoRA training leaves its adapter, inside the folder it writes."""


def parameter_count(model: Path) -> int:
    """Return the number of parameters in a model folder, read from the headers of its safetensors files.

    Raises:
        UserError: The folder holds no model in safetensors.
    """
    check_folder(model)
    return sum(map(_count, sorted(model.glob("*.safetensors"))))


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


def load_start(model: Path, settings: TrainingSettings) -> Any:
    """Return the model that a training starts from; an adapter folder is merged into its base.

    Merging makes the start one plain model: it is then also what DPO's reference is, adapters and all.
    Weights are fp32, but for frozen ones under ``lora`` with ``precision: bf16``.
    """
    import torch
    from transformers import AutoModelForCausalLM

    frozen_half = settings.lora is not None and settings.precision == "bf16"
    dtype = torch.bfloat16 if frozen_half else torch.float32
    if (model / "adapter_config.json").is_file():
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


def merge(start: Path, adapter: Path, out: Path) -> None:
    """Write `start` with `adapter` merged into it to `out`.

    The merge is computed in fp32 and stored in the start's own precision: merging rounded weights degrades the model.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoConfig

    stored = AutoConfig.from_pretrained(start).dtype or torch.float32
    base = load_start(start, TrainingSettings(learning_rate=1.0, max_steps=1))
    merged = PeftModel.from_pretrained(base, adapter).merge_and_unload()
    merged.to(stored).save_pretrained(out)
