"""Mixture-of-head attention on transformers' ViT (MoH section 4.1), under a model type of its own: ``moh_vit``.

Importing `strop.heads` registers the type with transformers; without it a saved model does not load. Published results
used TransNeXt (four stages, windowed and cosine attention); this is the plain ViT with the same routing.

Shapes: b images, n patches and the class token, D width, h heads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
    ViTPreTrainedModel,
)
from transformers import initialization as init
from transformers.models.vit.modeling_vit import ViTAttention, ViTEmbeddings, ViTLayer, ViTPooler

from strop.errors import UserError
from strop.heads.modeling.balance import MoHBalance
from strop.heads.modeling.refusal import RefusedByDense
from strop.heads.routers import HeadScores
from strop.heads.visibility import Visible, from_mask
from strop.heads.vision.attention import attend, balanced, router_of
from strop.heads.vision.registration import MODEL_TYPE
from strop.heads.vision.settings import VisionSettings


class MoHViTConfig(RefusedByDense, ViTConfig):  # type: ignore[misc]
    """ViT's config and ``moh``, the dict of `VisionSettings`; None is plain attention in every layer."""

    model_type = MODEL_TYPE
    moh: dict[str, Any] | None = None

    @property
    def moh_settings(self) -> VisionSettings:
        """The dict, checked.

        Raises:
            UserError: It cannot be routed, or the config is a ViT's.
        """
        if self.model_type != MODEL_TYPE:
            raise UserError(
                "this is a ViT's folder, and its weights would be left out",
                value=self.model_type,
                why="transformers stores them under other names and would begin with random ones",
                fix="load it with ViTForImageClassification and pass the model to strop.heads.vision.vit.from_vit",
            )
        return VisionSettings.from_dict(self.moh, heads=self.num_attention_heads, layers=self.num_hidden_layers)


class MoHViTAttention(ViTAttention):  # type: ignore[misc]
    """ViT's attention whose tokens use some heads only, with a learned router on the layer's input."""

    def __init__(self, config: MoHViTConfig, *, layer: int, balance: MoHBalance) -> None:
        super().__init__(config)
        if config.attention_probs_dropout_prob:
            raise UserError(
                "attention with routed heads cannot drop attention weights",
                value=f"attention_probs_dropout_prob: {config.attention_probs_dropout_prob}",
                fix="set it to 0; the published models do",
            )
        settings = config.moh_settings
        self.layer, self.balance, self.backend = layer, balance, settings.backend
        self.router = router_of(settings, layer, config.hidden_size)

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> tuple[Tensor, None]:
        """Attend; attention weights are never returned."""
        visible = None if attention_mask is None else _visible(attention_mask)
        routing = self.router(hidden_states)
        output_bnD = attend(
            hidden_states,
            query=self.q_proj,
            key=self.k_proj,
            value=self.v_proj,
            output=self.o_proj,
            routing=routing,
            layout=self.router.layout,
            scale=self.scaling,
            visible=visible,
            backend=self.backend,
        )
        if self.training:
            seen_bn = None if visible is None else visible.seen_bn
            layout, balance = self.router.layout, self.balance
            output_bnD = balanced(
                output_bnD, routing=routing, layout=layout, balance=balance, layer=self.layer, seen_bn=seen_bn
            )
        return output_bnD, None


def _visible(mask: Tensor) -> Visible:
    """Read transformers' mask, (b, 1, n, n), boolean or added to the scores."""
    mask_bnt = mask[:, 0] if mask.dtype == torch.bool else mask[:, 0] >= 0
    visible = from_mask(mask_bnt)
    if visible is None:
        raise UserError(
            "attention with routed heads needs the visible patches of an image to lie together",
            fix="mask patches at the end, or cut the images to one size",
        )
    return visible


class MoHViTLayer(ViTLayer):  # type: ignore[misc]
    """ViT's layer with the other attention."""

    def __init__(self, config: MoHViTConfig, *, layer: int, balance: MoHBalance) -> None:
        super().__init__(config)
        self.attention = MoHViTAttention(config, layer=layer, balance=balance)


class MoHViTPreTrainedModel(ViTPreTrainedModel):  # type: ignore[misc]
    """What both models share: the config, and routers that begin at zero."""

    config_class = MoHViTConfig  # transformers reads it from an annotation only where that is no string
    _no_split_modules = ("ViTEmbeddings", "MoHViTLayer")
    _can_record_outputs = {"hidden_states": MoHViTLayer}  # noqa: RUF012  # as transformers declares it

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, HeadScores):
            init.zeros_(module.weight)


class MoHViTModel(MoHViTPreTrainedModel, ViTModel):  # type: ignore[misc]
    """ViT without a head on top.

    Attributes:
        moh_balance: Load balance of the last forward pass, and its weight in the loss.
    """

    def __init__(self, config: MoHViTConfig, add_pooling_layer: bool = True, use_mask_token: bool = False) -> None:
        # Not ViTModel's own constructor: it would build, and initialise, the layers that are replaced.
        ViTPreTrainedModel.__init__(self, config)
        settings = config.moh_settings
        self.moh_balance = MoHBalance(settings.balance, settings.routing_layers)
        self.embeddings = ViTEmbeddings(config, use_mask_token=use_mask_token)
        self.layers = nn.ModuleList(
            MoHViTLayer(config, layer=layer, balance=self.moh_balance) for layer in range(config.num_hidden_layers)
        )
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.pooler = ViTPooler(config) if add_pooling_layer else None
        self.post_init()


class MoHViTForImageClassification(MoHViTPreTrainedModel, ViTForImageClassification):  # type: ignore[misc]
    """ViT that names what is in an image. The loss is the task's; the load-balance gradient joins it by itself."""

    def __init__(self, config: MoHViTConfig) -> None:
        ViTPreTrainedModel.__init__(self, config)
        self.num_labels = config.num_labels
        self.vit = MoHViTModel(config, add_pooling_layer=False)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels) if config.num_labels > 0 else nn.Identity()
        self.post_init()

    @property
    def moh_balance(self) -> MoHBalance:
        """Load balance of the last forward pass, and its weight in the loss."""
        balance: MoHBalance = self.vit.moh_balance
        return balance


def from_vit(model: ViTForImageClassification, settings: VisionSettings) -> MoHViTForImageClassification:
    """Route the heads of a ViT that one has: the same weights, new routers at zero.

    With every head active and the released gates it computes what the ViT computes.

    Args:
        model: The ViT, unchanged.
        settings: Heads of every layer.

    Raises:
        UserError: Layers or heads do not match.
    """
    config = model.config
    heads = [layout.query_heads for layout in settings.layers]
    if heads != [config.num_attention_heads] * config.num_hidden_layers:
        raise UserError(
            "the settings are for another number of layers or heads",
            value=f"heads {heads}",
            fix=f"the model has {config.num_hidden_layers} layers of {config.num_attention_heads} heads",
        )
    plain = {name: value for name, value in config.to_dict().items() if name not in ("model_type", "architectures")}
    routed_config = MoHViTConfig(**plain, moh=settings.to_dict())
    routed: MoHViTForImageClassification = MoHViTForImageClassification(routed_config).to(model.dtype)
    missing, unexpected = routed.load_state_dict(model.state_dict(), strict=False)
    if unexpected or any(".router." not in name for name in missing):
        raise UserError("the model's weights are not a ViT's", value=(*missing, *unexpected))
    routed.train(model.training)
    return routed


AutoConfig.register(MODEL_TYPE, MoHViTConfig, exist_ok=True)
AutoModel.register(MoHViTConfig, MoHViTModel, exist_ok=True)
AutoModelForImageClassification.register(MoHViTConfig, MoHViTForImageClassification, exist_ok=True)
