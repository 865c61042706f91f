"""Dense decoders of transformers whose heads are gated where the output projection begins.

For programs that bring their own attention and call the dense layers: all heads are computed, then those that a token
did not choose are multiplied by 0, as in the published code. `strop.heads.modeling` computes only the chosen ones.

Shapes: b batch rows, n queries, h query heads, d head width, D model width.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from strop.errors import UserError
from strop.heads.modeling.families import FAMILIES, config_class, dense_family
from strop.heads.modeling.settings import MoHSettings
from strop.heads.routers import make_router
from strop.heads.routing import Routing

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


class RoutersInside:
    """Mixed into a dense decoder: each attention layer gets its router, under the converted model's weight names."""

    def __init__(self, config: Any, *arguments: Any, **named: Any) -> None:
        """Build the dense decoder and add the routers; `gate` switches them on."""
        super().__init__(config, *arguments, **named)  # type: ignore[call-arg]
        settings = MoHSettings.from_config(config)
        for layer, layout in zip(self.layers, settings.layers, strict=True):  # type: ignore[attr-defined]
            layer.self_attn.router = make_router(
                layout,
                config.hidden_size,
                router=settings.router,
                style=settings.gates,
                straight_through=False,
            )


@cache
def decoder_class(family: str) -> type[PreTrainedModel]:
    """Make the decoder class of a family's converted models."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    dense = MODEL_MAPPING[CONFIG_MAPPING[dense_family(family)]]
    parts = {"__module__": __name__, "config_class": config_class(family)}
    made: type[PreTrainedModel] = type(f"MoH{dense.__name__}", (RoutersInside, dense), parts)
    return made


def register_decoders() -> None:
    """Let ``AutoModel`` build gated decoders from configs of converted models."""
    from transformers import AutoModel

    for family in FAMILIES:
        AutoModel.register(config_class(family), decoder_class(family), exist_ok=True)


def gate(layers: Iterable[nn.Module], config: PretrainedConfig) -> None:
    """Multiply what each head gives by its gate, in these layers.

    Call it when nothing will replace a projection any more: the gates hang on the modules.

    Args:
        layers: With a `self_attn` each; others, such as those of another rank, are passed over.
        config: Of the converted model.

    Raises:
        UserError: A layer has lost its router or the projection that its router reads.
    """
    for layer in layers:
        attention = getattr(layer, "self_attn", None)
        if attention is not None:
            _Gates(attention, int(config.num_attention_heads))


class _Gates:
    """The gates of one layer between the moment of routing and that of weighing."""

    def __init__(self, attention: nn.Module, heads: int) -> None:
        self.heads = heads
        self.gate_bnh: Tensor | None = None
        self.router: Any = getattr(attention, "router", None)
        output: Any = getattr(attention, "o_proj", None)
        query: Any = getattr(attention, "q_proj", None)
        by_query = self.router is not None and self.router.reads == "query"
        if self.router is None or output is None or (by_query and query is None):
            lost = "its router" if self.router is None else "o_proj" if output is None else "q_proj"
            raise UserError(
                f"a layer has lost {lost}, so its heads cannot be gated",
                value=type(attention).__name__,
                why="the program that runs the model replaced it, for instance by a fused projection",
                fix="use a learned router, or run the converted model with transformers",
            )
        if by_query:
            query.register_forward_hook(self._route_queries)
        else:
            attention.register_forward_pre_hook(self._route_hidden, with_kwargs=True)
        output.register_forward_pre_hook(self._weigh)

    def _route_hidden(self, _: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._keep(self.router(named["hidden_states"] if "hidden_states" in named else arguments[0]))

    def _route_queries(self, _: nn.Module, __: tuple[Any, ...], projected: Any) -> None:
        query_bnq = projected[0] if isinstance(projected, tuple) else projected
        self._keep(self.router(query_bnq.view(*query_bnq.shape[:-1], self.heads, -1)))

    def _keep(self, routing: Routing) -> None:
        self.gate_bnh = routing.mask_bnh if routing.gate_bnh is None else routing.gate_bnh

    def _weigh(self, _: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        out, *others = arguments
        assert self.gate_bnh is not None
        gate = self.gate_bnh.reshape(*out.shape[:-1], self.heads, 1).to(out.dtype)
        self.gate_bnh = None
        return (out.view(*out.shape[:-1], self.heads, -1) * gate).flatten(-2), *others
