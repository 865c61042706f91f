"""Mixture-of-head attention on diffusers' DiT (MoH section 4.2), with heads that may differ from layer to layer.

The published XL and L models have 8, 16 and 24 heads of one width in early, middle and late layers, so the inner width
of attention differs from the model's; diffusers' attention allows that, its DiT does not ask for it.

Two things are diffusers' own and not the published model's: every block embeds step and class for itself (so totals of
parameters differ), and in training every block drops labels by its own draw.

Shapes: b images, n patches, D width, h heads, d head width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from strop.errors import UserError
from strop.heads.modeling.balance import MoHBalance
from strop.heads.vision.attention import attend, balanced, router_of
from strop.heads.vision.budgets import Budget
from strop.heads.vision.settings import VisionSettings

try:
    from diffusers import DiTTransformer2DModel
    from diffusers.configuration_utils import register_to_config
    from diffusers.models.attention_processor import Attention
except ImportError as missing:
    raise UserError("a DiT needs diffusers", fix="pip install diffusers") from missing

NORM_TYPE = "moh_ada_norm_zero"
"""Of saved configs. diffusers ignores a `moh` that it does not know, but refuses this norm: a saved model never loads
as a dense one."""


class MoHDiTAttention(Attention):  # type: ignore[misc]
    """diffusers' self-attention whose tokens use some heads only, with a learned router on the layer's input.

    A module of its own, not a processor: setting a processor would silently turn routing off.
    """

    def __init__(self, settings: VisionSettings, *, layer: int, stock: Attention, balance: MoHBalance) -> None:
        """Take the place of a stock layer's attention, whose head width, biases and dropout stay."""
        super().__init__(
            query_dim=stock.query_dim,
            heads=settings.layers[layer].query_heads,
            dim_head=stock.inner_dim // stock.heads,
            dropout=stock.dropout,
            bias=stock.use_bias,
        )
        self.layer, self.balance, self.backend = layer, balance, settings.backend
        self.router = router_of(settings, layer, stock.query_dim)

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Attend from all patches to all patches.

        Raises:
            UserError: Other keys, or a mask, were given.
        """
        if encoder_hidden_states is not None or attention_mask is not None:
            raise UserError("attention with routed heads sees all patches of the image itself, and nothing else")
        routing = self.router(hidden_states)
        output_bnD = attend(
            hidden_states,
            query=self.to_q,
            key=self.to_k,
            value=self.to_v,
            output=self.to_out[0],
            routing=routing,
            layout=self.router.layout,
            scale=self.scale,
            backend=self.backend,
        )
        output_bnD = self.to_out[1](output_bnD)
        if self.training:
            layout, balance = self.router.layout, self.balance
            output_bnD = balanced(
                output_bnD, routing=routing, layout=layout, balance=balance, layer=self.layer, seen_bn=None
            )
        return output_bnD


class MoHDiTTransformer2DModel(DiTTransformer2DModel):  # type: ignore[misc]
    """diffusers' DiT with routed heads; saved and loaded as any diffusers model.

    Attributes:
        moh_balance: Load balance of the last forward pass, and its weight in the loss.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(  # noqa: PLR0913, PLR0917  # diffusers reads the config from the signature
        self,
        num_attention_heads: int = 16,
        attention_head_dim: int = 72,
        in_channels: int = 4,
        out_channels: int | None = None,
        num_layers: int = 28,
        dropout: float = 0.0,
        norm_num_groups: int = 32,
        attention_bias: bool = True,
        sample_size: int = 32,
        patch_size: int = 2,
        activation_fn: str = "gelu-approximate",
        num_embeds_ada_norm: int = 1000,
        upcast_attention: bool = False,
        norm_type: str = NORM_TYPE,
        norm_elementwise_affine: bool = False,
        norm_eps: float = 1e-5,
        moh: dict[str, Any] | None = None,
    ) -> None:
        """Build the model.

        Args:
            num_attention_heads: Heads of a stock layer. Times `attention_head_dim` it is the model's width, whatever
                heads the layers have.
            attention_head_dim: Width of a head in every layer.
            in_channels: Of the latents.
            out_channels: Twice as many where the model learns the variance too.
            num_layers: Blocks.
            dropout: After attention and in the feed-forward networks.
            norm_num_groups: diffusers keeps it; nothing reads it.
            attention_bias: Biases of queries, keys and values.
            sample_size: Side of the latents.
            patch_size: Side of a patch.
            activation_fn: Of the feed-forward networks.
            num_embeds_ada_norm: Classes; one more stands for none of them.
            upcast_attention: diffusers keeps it; nothing reads it.
            norm_type: `NORM_TYPE`.
            norm_elementwise_affine: Of the norm before the feed-forward network.
            norm_eps: Of that norm.
            moh: The dict of `VisionSettings`; None is plain attention in every layer.

        Raises:
            UserError: The config is a stock DiT's, or its heads cannot be routed.
        """
        if norm_type != NORM_TYPE:
            raise UserError(
                "this is a stock DiT's config",
                value=f"norm_type: {norm_type}",
                fix="load it with DiTTransformer2DModel and pass the model to strop.heads.vision.dit.from_dit",
            )
        super().__init__(
            num_attention_heads=num_attention_heads,
            attention_head_dim=attention_head_dim,
            in_channels=in_channels,
            out_channels=out_channels,
            num_layers=num_layers,
            dropout=dropout,
            norm_num_groups=norm_num_groups,
            attention_bias=attention_bias,
            sample_size=sample_size,
            patch_size=patch_size,
            activation_fn=activation_fn,
            num_embeds_ada_norm=num_embeds_ada_norm,
            upcast_attention=upcast_attention,
            norm_elementwise_affine=norm_elementwise_affine,
            norm_eps=norm_eps,
        )
        self.register_to_config(norm_type=NORM_TYPE)  # the stock constructor noted its own
        settings = VisionSettings.from_dict(moh, heads=num_attention_heads, layers=num_layers)
        self.moh_balance = MoHBalance(settings.balance, settings.routing_layers)
        for layer, block in enumerate(self.transformer_blocks):
            block.attn1 = MoHDiTAttention(settings, layer=layer, stock=block.attn1, balance=self.moh_balance)


def dit_of(budget: Budget, **config: Any) -> MoHDiTTransformer2DModel:
    """Build a published DiT's layers on diffusers' DiT, with random weights; learns the variance, as the published one.

    Args:
        budget: One of family ``dit``.
        config: Other parts of the config: `num_embeds_ada_norm`, `sample_size` and so on.

    Raises:
        UserError: The budget is a ViT's.
    """
    if budget.family != "dit":
        raise UserError("this head budget is not a DiT's", value=budget.name)
    settings = VisionSettings(layers=budget.layers)
    model: MoHDiTTransformer2DModel = MoHDiTTransformer2DModel(
        num_attention_heads=budget.blocks[0].width // budget.head_width,
        attention_head_dim=budget.head_width,
        num_layers=len(budget.layers),
        **({"out_channels": 8} | config),
        moh=settings.to_dict(),
    )
    return model


def from_dit(model: DiTTransformer2DModel, settings: VisionSettings) -> MoHDiTTransformer2DModel:
    """Route the heads of a DiT that one has: the same weights, new routers at zero.

    With every head active and the released gates it computes what the DiT computes.

    Raises:
        UserError: A layer of the settings has another number of heads than the model: weights cannot be cut anew.
    """
    config = dict(model.config)
    heads = [layout.query_heads for layout in settings.layers]
    if heads != [config["num_attention_heads"]] * config["num_layers"]:
        raise UserError(
            "the settings are for another number of layers or heads",
            value=f"heads {heads}",
            fix=f"the model has {config['num_layers']} layers of {config['num_attention_heads']} heads",
        )
    kept = {name: value for name, value in config.items() if not name.startswith("_") and name != "norm_type"}
    routed: MoHDiTTransformer2DModel = MoHDiTTransformer2DModel(**kept, moh=settings.to_dict())
    if routed.dtype != model.dtype:  # diffusers warns about every cast
        routed.to(model.dtype)
    missing, unexpected = routed.load_state_dict(model.state_dict(), strict=False)
    if unexpected or any(".router." not in name for name in missing):
        raise UserError("the model's weights are not a DiT's", value=(*missing, *unexpected))
    routed.train(model.training)
    return routed


def initialise(model: DiTTransformer2DModel) -> None:
    """Initialise a DiT for training as its authors do: uniform projections, blocks and output that begin at zero.

    diffusers leaves torch's defaults, with which blocks do not begin as the identity. Routers stay at zero.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    patches = model.pos_embed.proj
    nn.init.xavier_uniform_(patches.weight.view(patches.weight.shape[0], -1))
    nn.init.zeros_(patches.bias)
    for block in model.transformer_blocks:
        embedding = block.norm1.emb
        nn.init.normal_(embedding.class_embedder.embedding_table.weight, std=0.02)
        for layer in (embedding.timestep_embedder.linear_1, embedding.timestep_embedder.linear_2):
            nn.init.normal_(layer.weight, std=0.02)
        nn.init.zeros_(block.norm1.linear.weight)
    for last in (model.proj_out_1, model.proj_out_2):
        nn.init.zeros_(last.weight)
