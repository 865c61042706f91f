"""What a vision model's config says about its heads: the dict ``moh``, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from strop.errors import UserError
from strop.heads.layout import HeadLayout
from strop.heads.vision.budgets import first_shared

VERSION = 1
BETA = 0.01
"""Weight of the load-balance value, the mean over the layers that route (MoH, every setting)."""


@dataclass(frozen=True, kw_only=True)
class VisionSettings:
    """The dict ``moh`` of a vision model's config, checked.

    Attributes:
        layers: Heads of every layer; every head has keys of its own.
        gates: ``released``, or ``paper`` for the paper's literal ones.
        weigh_all: Layers whose heads are all shared weigh them, as the released ones do; False makes them plain
            attention.
        backend: Of `moh_attention`.
        balance: Weight of the load-balance value in the loss.
    """

    layers: tuple[HeadLayout, ...]
    gates: Literal["released", "paper"] = "released"
    weigh_all: bool = True
    backend: str = "auto"
    balance: float = BETA

    def __post_init__(self) -> None:
        """Refuse unknown gates, a negative weight and grouped keys."""
        if self.gates not in ("released", "paper"):
            raise UserError("there are no such gates", value=self.gates, alternatives=("released", "paper"))
        if not self.balance >= 0.0:
            raise UserError("the weight of the load-balance value is 0 or more", value=self.balance)
        for layer, layout in enumerate(self.layers):
            if layout.kv_groups != layout.query_heads:
                raise UserError(
                    "a vision transformer's heads have keys of their own",
                    value=f"layer {layer}: {layout.query_heads} heads, {layout.kv_groups} KV heads",
                )

    @property
    def routing_layers(self) -> int:
        """Layers in which tokens choose and which have a load-balance value.

        The released code also counts layers whose routed heads are all active (the first stage of ViT-B-50), whose
        value is a constant.
        """
        return sum(0 < layout.active < layout.units for layout in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Return the dict that a config keeps."""
        return {
            "version": VERSION,
            "layers": [
                {
                    "heads": layout.query_heads,
                    "shared": list(layout.shared),
                    "active": layout.active,
                    "choice": layout.choice,
                }
                for layout in self.layers
            ],
            "router": "learned",
            "gates": self.gates,
            "weigh_all": self.weigh_all,
            "backend": self.backend,
            "balance": self.balance,
        }

    @classmethod
    def from_dict(cls, moh: Mapping[str, Any] | None, *, heads: int, layers: int) -> VisionSettings:
        """Read the dict of a config.

        Args:
            moh: The dict; None or an empty one is a model whose heads are all on, with plain attention.
            heads: Heads of a layer that does not name its own.
            layers: Layers of the model.

        Raises:
            UserError: Layers are missing, or a part is unknown or cannot be routed.
        """
        if not moh:
            return cls(layers=(first_shared(heads, shared=heads, active=0),) * layers, weigh_all=False)
        known = {"version", "layers", "router", "gates", "weigh_all", "backend", "balance"}
        if unknown := set(moh) - known:
            raise UserError("the config's `moh` has parts that are not known", value=sorted(unknown))
        if moh.get("version", VERSION) != VERSION:
            raise UserError("the config's `moh` is of another version", value=moh["version"], fix="use a newer strop")
        if moh.get("router", "learned") != "learned":
            raise UserError(
                "a vision model's router is learned", value=moh["router"], why="no other was published or tried"
            )
        rows = moh.get("layers", [])
        if len(rows) != layers:
            raise UserError("the config's `moh` needs one entry a layer", value=f"{len(rows)} for {layers} layers")
        return cls(
            layers=tuple(_layout(row, heads) for row in rows),
            gates=moh.get("gates", "released"),
            weigh_all=bool(moh.get("weigh_all", True)),
            backend=str(moh.get("backend", "auto")),
            balance=float(moh.get("balance", BETA)),
        )


def _layout(row: Mapping[str, Any], heads: int) -> HeadLayout:
    heads = int(row.get("heads", heads))
    return HeadLayout(
        query_heads=heads,
        kv_groups=heads,
        shared=tuple(int(head) for head in row["shared"]),
        active=int(row["active"]),
        choice=row.get("choice", "free"),
    )
