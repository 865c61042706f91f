"""What a router decides for the tokens of one layer; the decisions themselves are pure functions.

Shapes: b batch rows, n queries, h query heads, e units among which one choice is made, c choices of a token (1, or one
for each KV group).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Routing:
    """One layer's choice, in float32 whatever the model's type.

    Attributes:
        mask_bnh: True where a token uses a head.
        gate_bnh: Gates, zero where not chosen; None where every chosen head has gate 1 and no gradient.
        probability_bnce: Softmax of the router over the units, before the choice; None without a router.
        picked_bnce: Which units were chosen; carries no gradient.
    """

    mask_bnh: Tensor
    gate_bnh: Tensor | None = None
    probability_bnce: Tensor | None = None
    picked_bnce: Tensor | None = None
