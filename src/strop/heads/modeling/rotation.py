"""The rotary embedding of a dense layer, as its own module of transformers computes it.

Shapes: b batch rows, n places, d head width.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from strop.errors import UserError

FUNCTION = "apply_rotary_pos_emb"


@dataclass(frozen=True)
class Rotation:
    """Turns the heads of a layer by their places.

    Attributes:
        turn: Of transformers: query, key, cosine and sine to both turned. Families pair the coordinates differently.
            None where the layer knows no places, as every fourth of SmolLM3.
    """

    turn: Callable[..., Any] | None

    def __call__(self, heads_bhnd: Tensor, cos_bnd: Tensor, sin_bnd: Tensor) -> Tensor:
        """Return the turned heads; what is wider than cosine and sine stays as it is."""
        return self.both(heads_bhnd, heads_bhnd[:, :0], cos_bnd, sin_bnd)[0]

    def both(self, query_bhnd: Tensor, key_bgnd: Tensor, cos_bnd: Tensor, sin_bnd: Tensor) -> tuple[Tensor, Tensor]:
        """Turn queries and keys of the same places; one call, which matters for a single token."""
        if self.turn is None:
            return query_bhnd, key_bgnd
        width = cos_bnd.shape[-1]
        if width == query_bhnd.shape[-1]:
            query_bhnd, key_bgnd = self.turn(query_bhnd, key_bgnd, cos_bnd, sin_bnd)
            return query_bhnd, key_bgnd
        whole = query_bhnd, key_bgnd
        turned = self.turn(*(heads[..., :width] for heads in whole), cos_bnd, sin_bnd)
        query_bhnd, key_bgnd = (
            torch.cat([begin, heads[..., width:].to(begin.dtype)], dim=-1)
            for begin, heads in zip(turned, whole, strict=True)
        )
        return query_bhnd, key_bgnd


def rotation_of(dense: nn.Module) -> Rotation:
    """Return the rotation of a dense attention layer, or of a converted one.

    Raises:
        UserError: Its module has no function for it.
    """
    own = getattr(dense, "rotation", None)
    if isinstance(own, Rotation):
        return own
    if not getattr(dense, "use_rope", True):
        return Rotation(None)
    turn = getattr(sys.modules[type(dense).__module__], FUNCTION, None)
    if turn is None:
        raise UserError("this attention has no rotary embedding that is known", value=type(dense).__name__)
    return Rotation(turn)
