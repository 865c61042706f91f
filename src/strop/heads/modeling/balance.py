"""What a model's layers report of their balance: one object a model, overwritten by every forward pass."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class MoHBalance:
    """Load balance of a model's layers.

    Attributes:
        coefficient: Weight in the loss of the mean over the layers that route. Whoever accumulates gradients sets it
            before each forward pass to the config's weight times the share of this micro-batch.
        routing_layers: Layers in which tokens choose.
        values: Layer to value of its last training pass, without gradient.
    """

    coefficient: float
    routing_layers: int
    values: dict[int, Tensor] = field(default_factory=dict)

    @property
    def layer_coefficient(self) -> float:
        """Weight of one layer's value."""
        return self.coefficient / max(self.routing_layers, 1)

    def mean(self) -> Tensor | None:
        """Return the mean over the layers that were measured; None where none was."""
        values = list(self.values.values())
        return sum(values[1:], values[0]) / len(values) if values else None
