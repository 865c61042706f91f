"""Decoders of transformers with mixture-of-head attention: config, layers, model classes."""

from strop.heads.modeling.settings import MoHSettings

__all__ = ["MoHSettings"]
