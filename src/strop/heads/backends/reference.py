"""The oracle: attention of every head, then the gates. What the published code does, and what every backend must equal.

Shapes: b batch rows, n queries, t keys, h query heads, g KV heads, d head width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from strop.heads.visibility import Visible


def dense_attention(
    query_bhnd: Tensor, key_bgtd: Tensor, value_bgtd: Tensor, *, visible: Visible, scale: float
) -> Tensor:
    """Attend with every head through torch's own kernel; (b, h, n, d), zero for queries that see nothing."""
    grouped = query_bhnd.shape[1] != key_bgtd.shape[1]
    if visible.causal and query_bhnd.shape[2] == visible.keys:
        return scaled_dot_product_attention(
            query_bhnd, key_bgtd, value_bgtd, is_causal=True, scale=scale, enable_gqa=grouped
        )
    if visible.everything or (visible.causal and query_bhnd.shape[2] == 1):
        return scaled_dot_product_attention(query_bhnd, key_bgtd, value_bgtd, scale=scale, enable_gqa=grouped)
    mask_b1nt = visible.mask_bnt()[:, None]
    out_bhnd = scaled_dot_product_attention(
        query_bhnd, key_bgtd, value_bgtd, attn_mask=mask_b1nt, scale=scale, enable_gqa=grouped
    )
    return out_bhnd.masked_fill(~visible.seen_bn[:, None, :, None], 0.0)


def gated_attention(
    query_bhnd: Tensor,
    key_bgtd: Tensor,
    value_bgtd: Tensor,
    *,
    gate_bnh: Tensor,
    visible: Visible,
    scale: float,
) -> Tensor:
    """Attend with every head and multiply by the gates, which are 0 for heads that were not chosen; (b, h, n, d)."""
    return gated(dense_attention(query_bhnd, key_bgtd, value_bgtd, visible=visible, scale=scale), gate_bnh)


def gated(out_bhnd: Tensor, gate_bnh: Tensor) -> Tensor:
    """Multiply what the heads give by their gates; in place where no gradient needs it as it was."""
    if gate_bnh.dtype != torch.bool:  # which the product converts as it goes
        gate_bnh = gate_bnh.to(out_bhnd.dtype)
    gate_bhn1 = gate_bnh.transpose(1, 2).unsqueeze(3)
    return out_bhnd * gate_bhn1 if out_bhnd.requires_grad or gate_bhn1.requires_grad else out_bhnd.mul_(gate_bhn1)
