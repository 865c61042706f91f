"""A first guess for a learned router: a linear fit to what each head contributed to each token.

Zero weights, the paper's start, rank all heads alike, so that the heads with the lowest numbers are taken and the model
starts as one with pruned heads. A router that starts with a fit chooses by the token from the first step on.

Only sums over tokens are kept, so that the calibration text may be as long as one likes.

Shapes: t tokens, D model width, h query heads, u routed units.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from strop.heads.layout import HeadLayout

RIDGE = 0.01
"""Ridge penalty over the mean square of the inputs."""
SPREAD = 0.05
"""Root mean square of the fitted logits over the calibration tokens: the released gates stay within some percent of 1,
and order is all that the choice needs."""


@dataclass(frozen=True)
class LayerSums:
    """What a fit needs to know of one layer.

    Attributes:
        gram_DD: Sum over tokens of the layer's input times itself, in float64.
        cross_Dh: Sum over tokens of the layer's input times each head's contribution.
        tokens: How many.
    """

    gram_DD: Tensor
    cross_Dh: Tensor
    tokens: int

    @classmethod
    def of(cls, hidden_tD: Tensor, contribution_th: Tensor) -> LayerSums:
        """Sum over tokens."""
        inputs, wanted = hidden_tD.to(torch.float64), contribution_th.to(torch.float64)
        return cls(inputs.T @ inputs, inputs.T @ wanted, len(inputs))

    def plus(self, other: LayerSums) -> LayerSums:
        """Add up the sums of other tokens."""
        return LayerSums(self.gram_DD + other.gram_DD, self.cross_Dh + other.cross_Dh, self.tokens + other.tokens)


def fitted_router(sums: LayerSums, layout: HeadLayout) -> Tensor:
    """Return weights (u, D) whose logits order a layer's routed units as their contributions do.

    As far as a linear function of the layer's input can: ridge regression without intercept.

    Args:
        sums: Of the calibration tokens.
        layout: The layer's heads. A KV group contributes what its heads do together.
    """
    cross_Du = sums.cross_Dh
    if layout.choice == "groups":
        grouped = cross_Du.reshape(len(cross_Du), layout.kv_groups, layout.heads_per_group).sum(-1)
        cross_Du = grouped[:, list(layout.routed_groups)]
    else:
        cross_Du = cross_Du[:, list(layout.routed)]
    # What all units have in common decides nothing.
    cross_Du = cross_Du - cross_Du.mean(1, keepdim=True)
    penalty = RIDGE * sums.gram_DD.diagonal().mean()
    ridged = sums.gram_DD + penalty * torch.eye(len(sums.gram_DD), dtype=sums.gram_DD.dtype)
    weight_Du = torch.linalg.solve(ridged, cross_Du)
    square = torch.einsum("du,de,eu->", weight_Du, sums.gram_DD, weight_Du) / (sums.tokens * weight_Du.shape[1])
    scaled: Tensor = weight_Du.T * (SPREAD / square.clamp(min=1e-24).sqrt())
    return scaled.to(torch.float32).contiguous()
