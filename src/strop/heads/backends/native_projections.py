"""Projections of the chosen (token, head) pairs by the C++ kernels: what `strop.heads.projections` does, and faster.

Shapes: b batch rows, n queries, h query heads, d head width, q = h * d, D model width, r rows of the plan.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from strop.heads.backends.native_calls import address, call, require, require_shapes
from strop.heads.plan import RoutingPlan


class _Projection(ctypes.Structure):
    """`Projection` of csrc/projections.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("token", "head")),
        *((name, ctypes.c_int64) for name in ("rows", "tokens", "heads", "width", "hidden")),
        ("weight", ctypes.c_void_p),
        ("transposed", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("gate", "bias")),
    )
    kept: tuple[Tensor | None, ...]


def project_queries(
    hidden_bnD: Tensor, weight_qD: Tensor, bias_q: Tensor | None, plan: RoutingPlan, *, head_width: int
) -> Tensor:
    """Project each token to the queries of its heads; (r, d). Differentiable."""
    require(hidden_bnD, weight_qD, bias_q, head_width=head_width)
    wide, model = plan.heads * head_width, hidden_bnD.shape[-1]
    require_shapes(
        hidden_bnD=(hidden_bnD.shape, (plan.batch, plan.queries, model)),
        weight_qD=(weight_qD.shape, (wide, model)),
        bias_q=((wide,) if bias_q is None else bias_q.shape, (wide,)),
    )
    hidden_ND = hidden_bnD.reshape(-1, model)
    rows_rd: Tensor = _Queries.apply(hidden_ND, weight_qD, bias_q, plan)  # type: ignore[no-untyped-call]
    return rows_rd


def project_output(
    rows_rd: Tensor,
    weight_Dq: Tensor,
    bias_D: Tensor | None,
    plan: RoutingPlan,
    *,
    gate_bnh: Tensor | None = None,
) -> Tensor:
    """Project the rows back and sum them for each token, weighted by the gates; (b, n, D). Differentiable."""
    require(rows_rd, weight_Dq, bias_D, head_width=rows_rd.shape[-1])
    model, width = weight_Dq.shape[0], rows_rd.shape[-1]
    require_shapes(
        rows_rd=(rows_rd.shape, (plan.rows, width)),
        weight_Dq=(weight_Dq.shape, (model, plan.heads * width)),
        bias_D=((model,) if bias_D is None else bias_D.shape, (model,)),
    )
    gate_r = None if gate_bnh is None else plan.pack_gate(gate_bnh).float().contiguous()
    out_ND: Tensor = _Output.apply(rows_rd, weight_Dq, bias_D, gate_r, plan)  # type: ignore[no-untyped-call]
    return out_ND.view(plan.batch, plan.queries, -1)


class _Queries(torch.autograd.Function):
    """Rows from tokens."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, plan: RoutingPlan) -> Tensor:
        hidden, weight = hidden.contiguous(), weight.contiguous()
        out = hidden.new_empty(plan.rows, weight.shape[0] // plan.heads)
        call("strop_gather", _projection(plan, weight, bias=bias), hidden, out, None, None)
        ctx.save_for_backward(hidden, weight)
        ctx.plan = plan
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        plan: RoutingPlan = ctx.plan
        rows, projection = gradient.contiguous(), _projection(plan, weight)
        hidden_gradient = weight_gradient = bias_gradient = None
        if ctx.needs_input_grad[0]:
            hidden_gradient = torch.empty_like(hidden)
            call("strop_scatter", projection, rows, hidden_gradient)
        if ctx.needs_input_grad[1]:
            weight_gradient = torch.zeros_like(weight)
            call("strop_weights", projection, hidden, rows, weight_gradient)
        if ctx.needs_input_grad[2]:
            bias_gradient = rows.new_zeros(plan.heads, rows.shape[1]).index_add_(0, plan.head_r, rows).view(-1)
        return hidden_gradient, weight_gradient, bias_gradient, None


class _Output(torch.autograd.Function):
    """Tokens from rows."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, gate: Tensor | None, plan: RoutingPlan
    ) -> Tensor:
        rows, weight = rows.contiguous(), weight.contiguous()
        out = rows.new_empty(plan.batch * plan.queries, weight.shape[0])
        call("strop_scatter", _projection(plan, weight, gate=gate, bias=bias, transposed=True), rows, out)
        ctx.save_for_backward(rows, weight, gate)
        ctx.plan = plan
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, gate = ctx.saved_tensors
        out, projection = gradient.contiguous(), _projection(ctx.plan, weight, gate=gate, transposed=True)
        rows_gradient = weight_gradient = bias_gradient = gate_gradient = None
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[3]:
            rows_gradient = torch.empty_like(rows)
            gate_gradient = None if gate is None else torch.empty_like(gate)
            call("strop_gather", projection, out, rows_gradient, rows, gate_gradient)
        if ctx.needs_input_grad[1]:
            weight_gradient = torch.zeros_like(weight)
            call("strop_weights", projection, out, rows, weight_gradient)
        if ctx.needs_input_grad[2]:
            bias_gradient = out.sum(0)
        return rows_gradient, weight_gradient, bias_gradient, gate_gradient, None


def _projection(
    plan: RoutingPlan,
    weight: Tensor,
    *,
    gate: Tensor | None = None,
    bias: Tensor | None = None,
    transposed: bool = False,
) -> _Projection:
    """Return the arguments for C; the weight is (q, D), or (D, q) where `transposed`."""
    kept = plan.token_r.contiguous(), plan.head_r.contiguous(), weight.contiguous(), gate, bias
    wide, hidden = weight.shape[::-1] if transposed else weight.shape
    sizes = plan.rows, plan.batch * plan.queries, plan.heads, wide // plan.heads, hidden
    token, head, where, *factors = (address(tensor) for tensor in kept)
    projection = _Projection(token, head, *sizes, where, transposed, *factors)
    projection.kept = kept
    return projection
