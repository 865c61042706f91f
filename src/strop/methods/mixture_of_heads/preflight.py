"""What a run, a plan and the doctor look at first, so that nothing is spent on a run that cannot end."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from strop.errors import UserError
from strop.evaluation.benchmarks.forgetting import require_harness
from strop.methods.mixture_of_heads.config import MixtureOfHeadsConfig
from strop.methods.mixture_of_heads.images import refuse_training
from strop.models.lengths import weights_folder

TRAINABLE = ("local", "builtin", "hf")


@dataclass(frozen=True, slots=True)
class Shape:
    """The heads of the model that is converted.

    Attributes:
        kind: transformers' name for its architecture.
        layers: Decoder layers.
        query_heads: Query heads of each.
        kv_groups: KV heads of each.
    """

    kind: str
    layers: int
    query_heads: int
    kv_groups: int


def preflight(config: MixtureOfHeadsConfig) -> Shape | None:
    """Make sure, as far as that is free, that the run can start.

    Returns:
        The shape of the model that is converted; None without one, or where it is not on this machine yet.

    Raises:
        UserError: A file or a model is missing, the model's weights are elsewhere, its heads do not divide as a setting
            asks, the harness is not installed, or the recipe is of images.
    """
    if config.images is not None:
        refuse_training(config.images)
    for path in config.text.files or ():
        if not path.is_file():
            raise UserError("no such file", value=str(path), fix="correct text.files; null reads Python's own docs")
    if config.examination.tasks:
        require_harness()
    if config.from_scratch is not None:
        _check_scratch(config)
    if config.model is None:
        return None
    config.model.check()
    if config.model.kind not in TRAINABLE:
        raise UserError(
            "'model' is to be converted, and its weights are not on this machine",
            value=config.model.model,
            fix="give a local folder, hf:ORG/NAME or a builtin",
        )
    folder = weights_folder(config.model)
    shape = None if folder is None else shape_of(folder)
    if shape is not None:
        check_settings(config, shape)
    return shape


def shape_of(folder: Path) -> Shape:
    """Read the shape of a model's heads from its config.

    Raises:
        UserError: It is routed already, or has no heads of the usual kind.
    """
    told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = str(told.get("model_type"))
    if "moh" in told:
        raise UserError("the model has routed heads already", value=kind, fix="give the dense model")
    heads = told.get("num_attention_heads")
    if not isinstance(heads, int) or not isinstance(told.get("num_hidden_layers"), int):
        raise UserError("the heads of this model cannot be told from its config", value=kind, fix="take a decoder")
    return Shape(kind, told["num_hidden_layers"], heads, told.get("num_key_value_heads") or heads)


def check_settings(config: MixtureOfHeadsConfig, shape: Shape) -> None:
    """Make sure that every setting divides the model's heads.

    Raises:
        UserError: One does not, or would leave nothing out.
    """
    from strop.methods.mixture_of_heads.arms import ARMS, layouts

    even = [[0.0] * shape.query_heads] * shape.layers
    for name, heads in config.heads.items():
        for arm in ARMS:
            made = layouts(heads, arm, even, kv_groups=shape.kv_groups)
            if arm == "moh" and not any(0 < layout.active < layout.units for layout in made):
                raise UserError(
                    f"heads.{name} leaves no token a choice",
                    value=heads.active,
                    fix="lower 'active', or share fewer heads",
                )


def _check_scratch(config: MixtureOfHeadsConfig) -> None:
    from strop.methods.mixture_of_heads.scratch import scratch_layout

    settings = config.from_scratch
    assert settings is not None
    if settings.width % settings.heads:
        raise UserError("from_scratch: the heads do not divide the width", value=f"{settings.width} / {settings.heads}")
    for share in settings.shares:
        scratch_layout(settings, share)
