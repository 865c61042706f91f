"""What a converted language model is beside the dense one: its layers' attention, and one balance for the trainer."""

from __future__ import annotations

from typing import Any

from torch import nn

from strop.errors import UserError
from strop.heads.modeling.attention import MoHAttention
from strop.heads.modeling.balance import MoHBalance
from strop.heads.modeling.settings import MoHSettings
from strop.heads.modeling.sight import Sight
from strop.heads.routers import HeadScores


class RoutedHeads:
    """Mixed into a causal language model of transformers: replaces every attention layer.

    Attributes:
        moh_settings: What the config's `moh` says.
        moh_balance: What the layers report, and the weight that a trainer gives it.
    """

    moh_settings: MoHSettings
    moh_balance: MoHBalance

    def __init__(self, config: Any, *arguments: Any, **named: Any) -> None:
        """Build the dense model and replace its attention.

        Raises:
            UserError: The config says nothing of the heads, or attention cannot be replaced.
        """
        settings = MoHSettings.from_config(config)
        if getattr(config, "attention_dropout", 0.0):
            raise UserError(
                "attention with dropout cannot leave heads out",
                value=f"attention_dropout {config.attention_dropout}",
                fix="set attention_dropout to 0 in config.json; dropout elsewhere is not affected",
            )
        super().__init__(config, *arguments, **named)  # type: ignore[call-arg]
        self.moh_settings = settings
        self.moh_balance = MoHBalance(settings.balance, settings.routing_layers)
        # transformers lets the decoder inside initialise its own modules, and that class knows no routers.
        self.model._init_weights = self._init_weights  # type: ignore[attr-defined]
        sight = Sight()
        for layer, layout in zip(self.model.layers, settings.layers, strict=True):  # type: ignore[attr-defined]
            layer.self_attn = MoHAttention(layer.self_attn, layout, settings, sight=sight, balance=self.moh_balance)

    def _init_weights(self, module: nn.Module) -> None:
        """Start routers at zero; everything else as the dense model does."""
        if isinstance(module, HeadScores):
            module.reset_parameters()
        else:
            super()._init_weights(module)  # type: ignore[misc]
