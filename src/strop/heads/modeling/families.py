"""Decoders of transformers with routed heads, as model types of their own: ``moh_llama`` for ``llama``.

A converted model keeps the dense model's weight names, config fields, cache and generation; its config adds ``moh``.
Without strop, transformers does not know the type and says so, and a dense class refuses the folder
(`strop.heads.modeling.refusal`); no code is ever loaded from a model folder.

When transformers' table of types is loaded (`strop.heads.registration`), a stand-in for each config class goes into it:
the dense class may be half made at that moment. The config class itself is made when it is first used, and the model
class, which needs transformers' modelling code, when a config is first built, which every automatic class does first.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from strop.errors import UserError
from strop.heads.modeling.refusal import RefusedByDense

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
"""Model types whose conversion is tested through and through. Others are tried out before they are converted
(`strop.heads.modeling.sameness`)."""
PREFIX = "moh_"


def moh_type(family: str) -> str:
    """Return the model type of a family's converted models."""
    return PREFIX + family


def dense_family(model_type: str) -> str:
    """Return the family of a model type, dense or converted.

    Raises:
        UserError: transformers has no causal language model of this type.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    family = model_type.removeprefix(PREFIX)
    if family not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise UserError(
            "models of this type cannot be converted",
            value=model_type,
            why="transformers has no causal language model of this type",
            alternatives=FAMILIES,
        )
    return family


def is_causal(architecture: str) -> bool:
    """Say whether a class of transformers is a causal language model."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return architecture.endswith("ForCausalLM") or architecture in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()


@cache
def config_class(family: str) -> type[PretrainedConfig]:
    """Make the config class of a family's converted models."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    dense: type[PretrainedConfig] = CONFIG_MAPPING[dense_family(family)]

    def finish(self: Any, **kwargs: Any) -> None:
        super(made, self).__post_init__(**kwargs)
        if not hasattr(self, "moh"):
            self.moh = {}
        register_model(family)

    made: type[PretrainedConfig] = type(
        f"MoH{dense.__name__}",
        (RefusedByDense, dense),
        {
            "__doc__": f"Config of a {family} decoder with mixture-of-head attention; `moh` tells its heads.",
            "__module__": __name__,
            "__post_init__": finish,
            "model_type": moh_type(family),
            # Splitting heads over devices would cut routed ones apart from the tokens' choice.
            "base_model_tp_plan": None,
        },
    )
    CONFIG_MAPPING.register(moh_type(family), made, exist_ok=True)
    return made


class _StandIn:
    """Stands for a config class in transformers' table until it is used; what it gives is the class's own."""

    family: ClassVar[str]

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        return config_class(cls.family)(*arguments, **named)

    @classmethod
    def from_dict(cls, values: dict[str, Any], **named: Any) -> Any:
        return config_class(cls.family).from_dict(values, **named)

    @classmethod
    def from_pretrained(cls, folder: Any, **named: Any) -> Any:
        return config_class(cls.family).from_pretrained(folder, **named)


@cache
def model_class(family: str) -> type[PreTrainedModel]:
    """Make the causal language model class of a family's converted models."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    from strop.heads.modeling.causal_lm import RoutedHeads

    dense = MODEL_FOR_CAUSAL_LM_MAPPING[CONFIG_MAPPING[dense_family(family)]]
    made: type[PreTrainedModel] = type(
        f"MoH{dense.__name__}",
        (RoutedHeads, dense),
        {
            "__doc__": f"{dense.__name__} in which each token uses the heads that it chooses.",
            "__module__": __name__,
            "config_class": config_class(family),
            # Masks must come as None or as intervals can be read off them; FlashAttention's and FlexAttention's do not.
            "_supports_flash_attn": False,
            "_supports_flex_attn": False,
            # How many rows there are depends on the tokens.
            "_can_compile_fullgraph": False,
        },
    )
    return made


@cache
def register_model(family: str) -> None:
    """Tell transformers which class a config of the family belongs to."""
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.register(config_class(family), model_class(family), exist_ok=True)


def register() -> None:
    """Tell transformers the converted model types: one for each of its own, since any may prove to be convertible."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    for family in CONFIG_MAPPING:
        if not family.startswith(PREFIX) and moh_type(family) not in CONFIG_MAPPING:
            stand_in: Any = type(f"MoH{family.title()}StandIn", (_StandIn,), {"family": family})
            CONFIG_MAPPING.register(moh_type(family), stand_in)


def __getattr__(name: str) -> Any:
    """Find the made classes by their names, as pickle and copies of them do."""
    if not name.startswith("MoH"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    dense = name.removeprefix("MoH")
    for family in sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, key=lambda family: family not in FAMILIES):
        if dense == CONFIG_MAPPING_NAMES.get(family):
            return config_class(family)
        if dense == MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[family]:
            return model_class(family)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
