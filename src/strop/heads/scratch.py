"""The paper's language models from scratch, MoH-LLM-S and -B, as plain Llama configurations and head layouts.

Their training code was never released. From the paper: layers, widths, heads, vocabulary, untied embeddings (which give
186 and 881 million parameters), 75 and 50 % of the heads, and for MoH-LLM-B at 75 % the split of 4 shared + 8 of 12
(figure 3). The rest is inferred, and `ScratchModel.inferred` says so for each value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from strop.errors import UserError
from strop.heads.layout import HeadLayout
from strop.heads.routers import router_parameters

ScratchSize = Literal["S", "B"]
SIZES: tuple[ScratchSize, ...] = get_args(ScratchSize)
SHARES = (50, 75, 100)
"""Percent of the heads that a token uses; 100 is the dense model beside which the others are shown."""

_SHAPES: dict[ScratchSize, dict[str, int]] = {
    "S": {"num_hidden_layers": 12, "hidden_size": 768, "intermediate_size": 2048, "num_attention_heads": 12},
    "B": {"num_hidden_layers": 24, "hidden_size": 1536, "intermediate_size": 4096, "num_attention_heads": 16},
}


@dataclass(frozen=True, kw_only=True)
class ScratchModel:
    """One of the paper's models.

    Attributes:
        name: As in the paper's table 3.
        config: Keyword arguments of transformers' LlamaConfig.
        layout: Of every layer.
        inferred: What the paper does not say, by name, with the reason for the value.
    """

    name: str
    config: dict[str, object]
    layout: HeadLayout
    inferred: dict[str, str]

    @property
    def parameters(self) -> int:
        """Weights of the model, its routers included, counted from the shapes."""
        config = {key: value for key, value in self.config.items() if isinstance(value, int)}
        width, layers = config["hidden_size"], config["num_hidden_layers"]
        layer = 4 * width * width + 3 * width * config["intermediate_size"] + 2 * width
        return layers * layer + 2 * config["vocab_size"] * width + width + self.router_parameters

    @property
    def router_parameters(self) -> int:
        """Weights of the routers of all layers."""
        layers, width = (int(str(self.config[key])) for key in ("num_hidden_layers", "hidden_size"))
        return layers * router_parameters(self.layout, width)


def scratch_model(size: ScratchSize, percent: int) -> ScratchModel:
    """Lay out one of the paper's language models (section 4.3, appendix tables).

    Args:
        size: ``S`` (186 million parameters) or ``B`` (881 million).
        percent: Share of active heads: 50, 75, or 100 for the dense model.

    Raises:
        UserError: A size or share that the paper does not have.
    """
    if size not in SIZES:
        raise UserError("the paper has no language model of this size", value=size, alternatives=SIZES)
    if percent not in SHARES:
        raise UserError(
            "the paper trained no language model with this share of heads",
            value=percent,
            alternatives=[str(share) for share in SHARES],
        )
    shape = _SHAPES[size]
    heads = shape["num_attention_heads"]
    shared = heads if percent == 100 else heads // 4
    active = 0 if percent == 100 else heads * percent // 100 - shared
    inferred = {
        "rms_norm_eps": "1e-5, Llama's",
        "rope_theta": "10,000, Llama's at this length",
        "initializer_range": "0.02, transformers' default",
    }
    if percent != 100:
        inferred["gates"] = "the released code's scale: that of the language models is not published"
    if (size, percent) in {("S", 75), ("S", 50), ("B", 50)}:
        inferred["shared"] = f"{shared} of {heads}: a quarter of the heads, as in MoH-LLM-B at 75 %"
    config = dict(
        shape,
        num_key_value_heads=heads,
        head_dim=shape["hidden_size"] // heads,
        vocab_size=65_536,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        hidden_act="silu",
        attention_bias=False,
        rms_norm_eps=1e-5,
        rope_theta=10_000.0,
        initializer_range=0.02,
    )
    name = f"LLM-{size}" if percent == 100 else f"MoH-LLM-{size} {percent} %"
    layout = HeadLayout(query_heads=heads, kv_groups=heads, shared=tuple(range(shared)), active=active)
    return ScratchModel(name=name, config=config, layout=layout, inferred=inferred)
