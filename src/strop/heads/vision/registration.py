"""Tells transformers the type ``moh_vit`` without loading anything of ViT: see `strop.heads.registration`."""

from __future__ import annotations

from typing import Any

MODEL_TYPE = "moh_vit"


class MoHViTStandIn:
    """Stands for the config class in transformers' table until it is used.

    The class itself needs ViT's config, whose module cannot be loaded while transformers loads its table.
    """

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        """Build the config itself."""
        return _config_class()(*arguments, **named)

    @classmethod
    def from_dict(cls, values: dict[str, Any], **named: Any) -> Any:
        """Read the config itself."""
        return _config_class().from_dict(values, **named)

    @classmethod
    def from_pretrained(cls, folder: Any, **named: Any) -> Any:
        """Load the config itself."""
        return _config_class().from_pretrained(folder, **named)


def register() -> None:
    """Tell transformers the type."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if MODEL_TYPE not in CONFIG_MAPPING:
        stand_in: Any = MoHViTStandIn
        CONFIG_MAPPING.register(MODEL_TYPE, stand_in)


def _config_class() -> Any:
    from strop.heads.vision import vit

    return vit.MoHViTConfig
