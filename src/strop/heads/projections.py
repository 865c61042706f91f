"""Query and output projections of the chosen (token, head) pairs only, in pure torch.

Shapes: b batch rows, n queries, h query heads, d head width, D model width, q = h d, r rows of the plan.
"""

from __future__ import annotations

import torch
from torch import Tensor

from strop.heads.plan import RoutingPlan


def project_queries(
    hidden_bnD: Tensor, weight_qD: Tensor, bias_q: Tensor | None, plan: RoutingPlan, *, head_width: int
) -> Tensor:
    """Project the chosen pairs' queries; (r, d).

    Args:
        hidden_bnD: The layer's input.
        weight_qD: The dense layer's weight.
        bias_q: Its bias.
        plan: The chosen pairs.
        head_width: d.
    """
    hidden_TD = hidden_bnD.flatten(0, 1)
    parts, places = [], []
    for head in range(plan.heads):
        place = (plan.head_r == head).nonzero()[:, 0]
        rows = slice(head * head_width, (head + 1) * head_width)
        projected = hidden_TD.index_select(0, plan.token_r[place]) @ weight_qD[rows].T
        parts.append(projected if bias_q is None else projected + bias_q[rows])
        places.append(place)
    joined_rd = torch.cat(parts)
    return torch.zeros_like(joined_rd).index_copy(0, torch.cat(places), joined_rd)


def project_output(
    rows_rd: Tensor, weight_Dq: Tensor, bias_D: Tensor | None, plan: RoutingPlan, *, gate_bnh: Tensor | None = None
) -> Tensor:
    """Weigh what the chosen heads give and add it up per token; (b, n, D).

    Args:
        rows_rd: What attention gave for each row.
        weight_Dq: The dense layer's weight.
        bias_D: Its bias.
        plan: The chosen pairs.
        gate_bnh: Gates; 1 where not given.
    """
    width = rows_rd.shape[-1]
    if gate_bnh is not None:
        rows_rd = rows_rd * plan.pack_gate(gate_bnh)[:, None].to(rows_rd.dtype)
    out_TD = rows_rd.new_zeros(plan.batch * plan.queries, weight_Dq.shape[0])
    for head in range(plan.heads):
        place = (plan.head_r == head).nonzero()[:, 0]
        part = rows_rd.index_select(0, place) @ weight_Dq[:, head * width : (head + 1) * width].T
        out_TD = out_TD.index_add(0, plan.token_r[place], part)
    out_TD = out_TD if bias_D is None else out_TD + bias_D
    return out_TD.view(plan.batch, plan.queries, -1)
