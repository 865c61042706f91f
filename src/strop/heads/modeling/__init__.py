"""Decoders of transformers with mixture-of-head attention: config, layers, model classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from strop.heads.modeling.settings import MoHSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["MoHSettings", "load"]


def load(folder: Path, **from_pretrained: Any) -> PreTrainedModel:
    """Load a model folder, converted or dense: ``AutoModelForCausalLM`` once it knows the converted types.

    Args:
        folder: Of the model.
        from_pretrained: What `AutoModelForCausalLM.from_pretrained` takes besides.
    """
    from transformers import AutoModelForCausalLM

    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, **from_pretrained
    )
    return model
