"""Which keys the tokens of a forward pass see, worked out once for all layers from what transformers passes them.

Shapes: b batch rows, n queries, t keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import ref

import torch
from torch import Tensor

from strop.heads.visibility import Visible, causal, from_mask

KEPT = 2
"""Masks of one pass: of local and of global attention."""


@dataclass(frozen=True)
class Seen:
    """What a layer needs of the mask.

    Attributes:
        visible: The keys of each query as intervals; None where some query's keys have a gap.
        mask_b1nt: The mask itself where there are gaps, for the dense path.
        real_bn: True for tokens that are not padding; None where all are real.
    """

    visible: Visible | None
    mask_b1nt: Tensor | None = None
    real_bn: Tensor | None = None


class Sight:
    """The answers of the last passes, kept for the other layers of the same pass; one object a model.

    Layers of one pass get the same mask object, or none and the same shape. A model with local and global layers passes
    two masks in turn. A mask that is gone, or was written to, is looked at again.
    """

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._last: tuple[_Answer, ...] = ()

    def of(self, mask: Tensor | None, *, batch: int, queries: int, keys: int, device: torch.device) -> Seen:
        """Return what the tokens see.

        Args:
            mask: As a transformers attention layer gets it: None (causal, nothing hidden), (b, t) with 1 for real
                keys, or (b or 1, 1, n, t), boolean or additive.
            batch: b.
            queries: n; the last of the t keys, or the first ones where there is no mask (a static cache at its start).
            keys: t.
            device: Of the tokens.
        """
        shape = (batch, queries, keys, device)
        for answer in self._last:
            if answer.shape == shape and answer.is_about(mask):
                return answer.seen
        seen = _look(mask, batch=batch, queries=queries, keys=keys, device=device)
        answer = _Answer(None if mask is None else ref(mask), _version(mask), shape, seen)
        self._last = (answer, *self._last[: KEPT - 1])
        return seen

    def __getstate__(self) -> dict[str, tuple[()]]:
        """Copy and pickle without what was seen: that belongs to a pass."""
        return {"_last": ()}


@dataclass(frozen=True)
class _Answer:
    mask: ref[Tensor] | None
    version: int
    shape: tuple[int, int, int, torch.device]
    seen: Seen

    def is_about(self, mask: Tensor | None) -> bool:
        if self.mask is None:
            return mask is None
        return mask is not None and self.mask() is mask and self.version == _version(mask)


def _version(mask: Tensor | None) -> int:
    """Count the writes to a mask; tensors of inference mode keep no count."""
    return 0 if mask is None or mask.is_inference() else int(mask._version)


def _look(mask: Tensor | None, *, batch: int, queries: int, keys: int, device: torch.device) -> Seen:
    if mask is None:
        return Seen(_without_mask(batch, queries, keys, device))
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
    if visible is not None and _plainly_causal(visible):
        visible = causal(batch, queries, keys, device=device)
    return Seen(visible, mask_bnt[:, None] if visible is None else None, real_bn)


def _without_mask(batch: int, queries: int, keys: int, device: torch.device) -> Visible:
    """Read a missing mask as transformers' own attention does: one query sees every key, several see the first ones."""
    if queries in (1, keys):
        return causal(batch, queries, keys, device=device)
    begun = causal(batch, queries, device=device)
    return Visible(begun.first_bn, begun.last_bn, keys)


def _plainly_causal(visible: Visible) -> bool:
    queries = visible.last_bn.shape[1]
    last_n = torch.arange(visible.keys - queries, visible.keys, device=visible.last_bn.device, dtype=torch.int32)
    return not bool(visible.first_bn.any()) and bool((visible.last_bn == last_n).all())
