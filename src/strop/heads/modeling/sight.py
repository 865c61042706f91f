"""Which keys the tokens of a forward pass see, worked out once for all layers from what transformers passes them.

Shapes: b batch rows, n queries, t keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from strop.heads.visibility import Visible, causal, from_mask


@dataclass(frozen=True)
class Seen:
    """What a layer needs of the mask.

    Attributes:
        visible: The keys of each query as intervals; None where some query's keys have a gap.
        mask_b1nt: The mask itself where there is one, for the dense path.
        real_bn: True for tokens that are not padding; None where all are real.
    """

    visible: Visible | None
    mask_b1nt: Tensor | None = None
    real_bn: Tensor | None = None


@dataclass
class Sight:
    """The last answer, kept for the other layers of the same pass; one object a model.

    Layers of one pass get the same mask object, or none and the same shape.
    """

    _mask: Tensor | None = None
    _shape: tuple[int, ...] = ()
    _seen: Seen | None = field(default=None)

    def of(self, mask: Tensor | None, *, batch: int, queries: int, keys: int, device: torch.device) -> Seen:
        """Return what the tokens see.

        Args:
            mask: As a transformers attention layer gets it: None (causal, nothing hidden), (b, t) with 1 for real
                keys, or (b or 1, 1, n, t), boolean or additive.
            batch: b.
            queries: n, the last of the t keys.
            keys: t.
            device: Of the tokens.
        """
        shape = (batch, queries, keys, device.index or 0)
        if self._seen is None or mask is not self._mask or shape != self._shape:
            self._mask, self._shape = mask, shape
            self._seen = _look(mask, batch=batch, queries=queries, keys=keys, device=device)
        return self._seen

    def forget(self) -> None:
        """Drop the mask of the last pass."""
        self._mask, self._seen = None, None


def _look(mask: Tensor | None, *, batch: int, queries: int, keys: int, device: torch.device) -> Seen:
    if mask is None:
        return Seen(causal(batch, queries, keys, device=device))
    if mask.dim() == 2:
        place_n = torch.arange(keys - queries, keys, device=device)
        mask_bnt = mask[:, None, :keys].bool() & (torch.arange(keys, device=device) <= place_n[:, None])
    else:
        mask = mask[:, 0, :, :keys]
        mask_bnt = (mask if mask.dtype == torch.bool else mask >= 0).expand(batch, queries, keys)
    real_bn = None
    if queries == keys:
        # A token that does not see itself is padding, also where it sees real tokens before it.
        real_bn = mask_bnt.diagonal(dim1=1, dim2=2)
        if bool(real_bn.all()):
            real_bn = None
        else:
            mask_bnt = mask_bnt & real_bn[..., None]
    visible = from_mask(mask_bnt)
    if visible is not None and real_bn is None and queries == keys and _plainly_causal(visible):
        visible = causal(batch, queries, keys, device=device)
    return Seen(visible, mask_bnt[:, None], real_bn)


def _plainly_causal(visible: Visible) -> bool:
    last_n = torch.arange(visible.keys, device=visible.last_bn.device, dtype=torch.int32)
    return not bool(visible.first_bn.any()) and bool((visible.last_bn == last_n).all())
