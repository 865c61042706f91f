"""Pure torch: attention of the packed rows by torch's own kernels; always there.

Shapes: b batch rows, g KV heads, t keys, d head width, r rows of the plan.
"""

from __future__ import annotations

import torch
from torch import Tensor

from strop.heads.plan import RoutingPlan


def missing(query: Tensor, plan: RoutingPlan) -> str | None:
    """Say why this call cannot run here; it always can."""
    return None


def attend(query_rd: Tensor, key_bgtd: Tensor, value_bgtd: Tensor, *, plan: RoutingPlan, scale: float) -> Tensor:
    """Attend from every row to the keys that it sees; (r, d), zero for rows that see nothing."""
    groups = key_bgtd.shape[1]
    position_t = torch.arange(key_bgtd.shape[2], device=query_rd.device)
    parts = []
    for segment in range(plan.batch * groups):
        rows = slice(int(plan.offset_s[segment]), int(plan.offset_s[segment + 1]))
        batch, group = divmod(segment, groups)
        score_rt = query_rd[rows] @ key_bgtd[batch, group].T * scale
        seen_rt = (position_t >= plan.first_r[rows, None]) & (position_t <= plan.last_r[rows, None])
        share_rt = score_rt.masked_fill(~seen_rt, float("-inf")).softmax(-1).nan_to_num(0.0)
        parts.append(share_rt @ value_bgtd[batch, group])
    return torch.cat(parts)
