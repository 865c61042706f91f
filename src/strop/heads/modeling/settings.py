"""What a converted model's config says about its heads: the dict ``moh``, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from strop.errors import UserError
from strop.heads.gates import STYLES, Style
from strop.heads.layout import Choice, HeadLayout
from strop.heads.routers import ROUTERS, RouterKind

VERSION = 1
BETA = 0.01
"""Weight of the load-balance value, the mean over the layers that route (MoH, every setting)."""

StraightThrough = Literal["exact", "selected", "off"]
"""How a query-norm router learns: from every head's output (dense: all are computed), from those of the chosen heads
alone (an estimate that sparse attention can give), or not at all."""
STRAIGHT_THROUGH: tuple[StraightThrough, ...] = get_args(StraightThrough)
CHOICES: tuple[Choice, ...] = get_args(Choice)
BACKENDS = ("auto", "reference", "gathered", "native", "triton", "flex")
_KEYS = {"version", "layers", "router", "gates", "straight_through", "backend", "balance", "source"}


@dataclass(frozen=True, kw_only=True)
class MoHSettings:
    """The heads of every layer of a decoder and how they are chosen and weighed.

    Attributes:
        layers: Heads of each layer.
        router: ``learned`` from the layer's input (weights of its own), or ``query_norm`` (none).
        gates: Of a learned router: ``released``, or ``paper`` for the paper's literal ones.
        straight_through: Of a query-norm router; see `StraightThrough`.
        backend: Of `moh_attention`.
        balance: Weight of the load-balance value in training, beta.
        source: Hash of the weights that were converted; empty where that is not known.
    """

    layers: tuple[HeadLayout, ...]
    router: RouterKind = "learned"
    gates: Style = "released"
    straight_through: StraightThrough = "selected"
    backend: str = "auto"
    balance: float = BETA
    source: str = ""

    def __post_init__(self) -> None:
        """Refuse unknown names and a negative weight."""
        for what, value, known in (
            ("router", self.router, ROUTERS),
            ("style of gates", self.gates, STYLES),
            ("kind of straight-through gradient", self.straight_through, STRAIGHT_THROUGH),
            ("attention backend", self.backend, BACKENDS),
        ):
            if value not in known:
                raise UserError(f"there is no such {what}", value=value, alternatives=known)
        if not self.balance >= 0.0:
            raise UserError("the weight of the load-balance value is 0 or more", value=self.balance)

    @property
    def routing_layers(self) -> int:
        """Layers in which tokens choose."""
        return sum(0 < layout.active < layout.units for layout in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Return the dict that a config keeps."""
        return {
            "version": VERSION,
            "layers": [
                {"shared": list(layout.shared), "active": layout.active, "choice": layout.choice}
                for layout in self.layers
            ],
            "router": self.router,
            "gates": self.gates,
            "straight_through": self.straight_through,
            "backend": self.backend,
            "balance": self.balance,
            "source": self.source,
        }

    @classmethod
    def from_config(cls, config: Any) -> MoHSettings:
        """Read the dict ``moh`` of a transformers config.

        Raises:
            UserError: It is missing, of another version, has parts that are not known, or a layer cannot be routed.
        """
        moh: Any = getattr(config, "moh", None)
        if not isinstance(moh, Mapping) or not moh:
            raise UserError(
                "this config says nothing of its heads",
                value=getattr(config, "model_type", None),
                fix="convert the dense model with strop heads convert",
            )
        if unknown := set(moh) - _KEYS:
            raise UserError("the config's `moh` has parts that are not known", value=sorted(unknown))
        if moh.get("version", VERSION) != VERSION:
            raise UserError("the config's `moh` is of another version", value=moh["version"], fix="use a newer strop")
        rows: Sequence[Any] = moh.get("layers") or ()
        if len(rows) != config.num_hidden_layers:
            raise UserError(
                "the config's `moh` needs one entry a layer", value=f"{len(rows)} for {config.num_hidden_layers} layers"
            )
        heads, groups = head_counts(config)
        named = {key: moh[key] for key in _KEYS - {"version", "layers"} if key in moh}
        return cls(layers=tuple(_layout(row, heads, groups) for row in rows), **named)


def head_counts(config: Any) -> tuple[int, int]:
    """Return query heads and KV heads of a config."""
    heads = int(config.num_attention_heads)
    return heads, int(getattr(config, "num_key_value_heads", None) or heads)


def _layout(row: Any, heads: int, groups: int) -> HeadLayout:
    try:
        shared, active, choice = tuple(int(head) for head in row["shared"]), int(row["active"]), row["choice"]
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(
            "the config's `moh` does not say what a layer's heads are",
            value=row,
            why="it needs shared (a list of heads), active (a number) and choice",
        ) from error
    if choice not in CHOICES:
        raise UserError("tokens cannot choose among that", value=choice, alternatives=CHOICES)
    return HeadLayout(query_heads=heads, kv_groups=groups, shared=shared, active=active, choice=choice)
