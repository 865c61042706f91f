"""Query and output projections of the chosen (token, head) pairs only.

The torch way goes head by head: the tokens of a head are gathered and one matrix product is made of them. The native
backend has kernels of its own. Where almost all pairs are chosen, the dense product is made and the rest dropped.

Shapes: b batch rows, n queries, N = b n tokens, h query heads, d head width, D model width, q = h d, r rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from strop.heads.attention import backend_now, with_gradient
from strop.heads.backends.native_calls import WIDTH_STEP, why_not
from strop.heads.plan import RoutingPlan

FEW_ROWS = 8
"""New tokens up to which their weights' way from memory is what costs; for more a dense product is faster."""

DENSE_SHARE = 0.65
"""Share of chosen pairs above which the dense product is faster than one for each head, which also gathers."""


def project_queries(
    hidden_bnD: Tensor,
    weight_qD: Tensor,
    bias_q: Tensor | None,
    plan: RoutingPlan,
    *,
    head_width: int,
    backend: str = "auto",
) -> Tensor:
    """Project the chosen pairs' queries; (r, d). Differentiable once.

    Args:
        hidden_bnD: The layer's input.
        weight_qD: The dense layer's weight.
        bias_q: Its bias.
        plan: The chosen pairs.
        head_width: d.
        backend: Of attention: ``native``'s own kernels where it has them for these tensors, else torch.
    """
    hidden_bnD, weight_qD, bias_q = _as_autocast(hidden_bnD, weight_qD, bias_q)
    if _natively(backend, hidden_bnD, weight_qD, bias_q, head_width=head_width):
        from strop.heads.backends import native

        return native.project_queries(hidden_bnD, weight_qD, bias_q, plan, head_width=head_width)
    if _nearly_dense(plan):
        dense_bnq = linear(hidden_bnD, weight_qD, bias_q)
        return dense_bnq.reshape(-1, head_width).index_select(0, plan.token_r * plan.heads + plan.head_r)
    hidden_ND = hidden_bnD.reshape(-1, hidden_bnD.shape[-1])
    rows_rd: Tensor = _Queries.apply(hidden_ND, weight_qD, bias_q, plan)  # type: ignore[no-untyped-call]
    return rows_rd


def project_output(
    rows_rd: Tensor,
    weight_Dq: Tensor,
    bias_D: Tensor | None,
    plan: RoutingPlan,
    *,
    gate_bnh: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Weigh what the chosen heads give and add it up per token; (b, n, D). Differentiable once.

    A token without heads gets the bias alone.

    Args:
        rows_rd: What attention gave for each row.
        weight_Dq: The dense layer's weight.
        bias_D: Its bias.
        plan: The chosen pairs.
        gate_bnh: Gates; 1 where not given.
        backend: As in `project_queries`.
    """
    rows_rd, weight_Dq, bias_D = _as_autocast(rows_rd, weight_Dq, bias_D)
    width = rows_rd.shape[-1]
    if _natively(backend, rows_rd, weight_Dq, bias_D, head_width=width):
        from strop.heads.backends import native

        return native.project_output(rows_rd, weight_Dq, bias_D, plan, gate_bnh=gate_bnh)
    if gate_bnh is not None:
        rows_rd = rows_rd * plan.pack_gate(gate_bnh)[:, None].to(rows_rd.dtype)
    if _nearly_dense(plan):
        wide_Nd = rows_rd.new_zeros(plan.batch * plan.queries * plan.heads, width)
        wide_Nd = wide_Nd.index_copy_(0, plan.token_r * plan.heads + plan.head_r, rows_rd)
        return linear(wide_Nd.view(plan.batch, plan.queries, -1), weight_Dq, bias_D)
    out_ND: Tensor = _Output.apply(rows_rd, weight_Dq, bias_D, plan)  # type: ignore[no-untyped-call]
    return out_ND.view(plan.batch, plan.queries, -1)


def token_queries(
    hidden_b1D: Tensor,
    weight_qD: Tensor,
    bias_q: Tensor | None,
    *,
    head_mask_bnh: Tensor,
    backend: str = "auto",
) -> Tensor:
    """Project one new token of each row to its queries; (b, 1, q), of which only chosen heads' parts are to be read.

    The native backend leaves the weights of other heads unread; else the dense product is made.

    Args:
        hidden_b1D: The layer's input.
        weight_qD: The dense layer's weight.
        bias_q: Its bias.
        head_mask_bnh: (b, 1, h), True where the token uses a head.
        backend: As in `project_queries`.
    """
    width = weight_qD.shape[0] // head_mask_bnh.shape[-1]
    if _token_natively(backend, hidden_b1D, weight_qD, bias_q, model=weight_qD.shape[1], head_width=width):
        from strop.heads.backends import native

        return native.token_queries(hidden_b1D, weight_qD, bias_q, head_mask_bnh)
    return linear(hidden_b1D, weight_qD, bias_q)


def token_output(
    wide_b1q: Tensor,
    weight_Dq: Tensor,
    bias_D: Tensor | None,
    *,
    head_mask_bnh: Tensor,
    backend: str = "auto",
) -> Tensor:
    """Project what one new token's heads give, gates included; (b, 1, D).

    Args:
        wide_b1q: Zero for heads that were not chosen.
        weight_Dq: The dense layer's weight.
        bias_D: Its bias.
        head_mask_bnh: (b, 1, h), True where the token uses a head.
        backend: As in `project_queries`.
    """
    width = weight_Dq.shape[1] // head_mask_bnh.shape[-1]
    if _token_natively(backend, wide_b1q, weight_Dq, bias_D, model=weight_Dq.shape[0], head_width=width):
        from strop.heads.backends import native

        return native.token_output(wide_b1q, weight_Dq, bias_D, head_mask_bnh)
    return linear(wide_b1q, weight_Dq, bias_D)


def _token_natively(
    backend: str, token: Tensor, weight: Tensor, bias: Tensor | None, *, model: int, head_width: int
) -> bool:
    if token.shape[0] > FEW_ROWS or model % WIDTH_STEP or with_gradient(token, weight, bias):
        return False
    if torch.is_autocast_enabled(token.device.type):
        return False
    return _natively(backend, token, weight, bias, head_width=head_width)


def _nearly_dense(plan: RoutingPlan) -> bool:
    return plan.rows > DENSE_SHARE * plan.batch * plan.queries * plan.heads


def _natively(backend: str, *tensors: Tensor | None, head_width: int) -> bool:
    """Say whether the native kernels take these tensors; ``auto`` and ``native`` use them where they do."""
    if backend_now(backend) not in {"auto", "native"}:
        return False
    if any(x is not None and (x.dtype != torch.float32 or x.device.type != "cpu") for x in tensors):
        return False
    return all(x is None or why_not(x, head_width) is None for x in tensors)


def _as_autocast(*tensors: Tensor | None) -> tuple[Any, ...]:
    """Cast as autocast casts the inputs of a linear layer: own gradients know nothing of it."""
    kind = next(x.device.type for x in tensors if x is not None)
    if not torch.is_autocast_enabled(kind):
        return tensors
    dtype = torch.get_autocast_dtype(kind)
    return tuple(None if x is None else x.to(dtype) for x in tensors)


def _heads_of(plan: RoutingPlan) -> tuple[Tensor, list[int], tuple[Tensor, ...]]:
    """Return the rows in order of head, how many each head has, and the tokens of each head's rows."""
    order_r, counts = plan.by_head
    return order_r, counts, torch.split(plan.token_r.index_select(0, order_r), counts)


class _Queries(torch.autograd.Function):
    """Rows from tokens, head by head; the gathered inputs are gathered again for the gradient, not kept."""

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, weight_qD: Tensor, bias_q: Tensor | None, plan: RoutingPlan) -> Tensor:
        order_r, counts, tokens = _heads_of(plan)
        d = weight_qD.shape[0] // plan.heads
        with torch.autocast(hidden_ND.device.type, enabled=False):
            joined_rd = hidden_ND.new_empty(plan.rows, d)
            for token, weight, out in zip(
                tokens, torch.split(weight_qD, d), torch.split(joined_rd, counts), strict=True
            ):
                torch.mm(hidden_ND.index_select(0, token), weight.T, out=out)
            if bias_q is not None:
                joined_rd += bias_q.view(plan.heads, d).index_select(0, plan.head_r.index_select(0, order_r))
        ctx.save_for_backward(hidden_ND, weight_qD)
        ctx.plan = plan
        return torch.empty_like(joined_rd).index_copy_(0, order_r, joined_rd)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_rd: Tensor) -> tuple[Tensor | None, ...]:
        hidden_ND, weight_qD = ctx.saved_tensors
        plan: RoutingPlan = ctx.plan
        order_r, counts, tokens = _heads_of(plan)
        d = weight_qD.shape[0] // plan.heads
        for_hidden, for_weight, for_bias = ctx.needs_input_grad[:3]
        hidden_grad = torch.zeros_like(hidden_ND) if for_hidden else None
        weight_grad = torch.empty_like(weight_qD) if for_weight else None
        grads = torch.split(grad_rd.index_select(0, order_r), counts)
        for head, (token, grad) in enumerate(zip(tokens, grads, strict=True)):
            part = slice(head * d, (head + 1) * d)
            if hidden_grad is not None:
                hidden_grad.index_add_(0, token, grad @ weight_qD[part])
            if weight_grad is not None:
                torch.mm(grad.T, hidden_ND.index_select(0, token), out=weight_grad[part])
        bias_grad = torch.cat([grad.sum(0) for grad in grads]) if for_bias else None
        return hidden_grad, weight_grad, bias_grad, None


class _Output(torch.autograd.Function):
    """Tokens from rows, head by head."""

    @staticmethod
    def forward(ctx: Any, rows_rd: Tensor, weight_Dq: Tensor, bias_D: Tensor | None, plan: RoutingPlan) -> Tensor:
        order_r, counts, tokens = _heads_of(plan)
        d = rows_rd.shape[1]
        shape = plan.batch * plan.queries, weight_Dq.shape[0]
        with torch.autocast(rows_rd.device.type, enabled=False):
            out_ND = rows_rd.new_zeros(shape) if bias_D is None else bias_D.expand(shape).clone()
            parts = torch.split(rows_rd.index_select(0, order_r), counts)
            for token, part, weight in zip(tokens, parts, torch.split(weight_Dq, d, dim=1), strict=True):
                out_ND.index_add_(0, token, part @ weight.T)
        ctx.save_for_backward(rows_rd, weight_Dq)
        ctx.plan = plan
        return out_ND

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor | None, ...]:
        rows_rd, weight_Dq = ctx.saved_tensors
        plan: RoutingPlan = ctx.plan
        order_r, counts, tokens = _heads_of(plan)
        d = rows_rd.shape[1]
        for_rows, for_weight, for_bias = ctx.needs_input_grad[:3]
        joined_rd = torch.empty_like(rows_rd) if for_rows else None
        weight_grad = torch.empty_like(weight_Dq) if for_weight else None
        parts = torch.split(rows_rd.index_select(0, order_r), counts)
        outs = [None] * plan.heads if joined_rd is None else torch.split(joined_rd, counts)
        for head, (token, part, out) in enumerate(zip(tokens, parts, outs, strict=True)):
            columns = slice(head * d, (head + 1) * d)
            grad = grad_ND.index_select(0, token)
            if out is not None:
                torch.mm(grad, weight_Dq[:, columns], out=out)
            if weight_grad is not None:
                weight_grad[:, columns] = grad.T @ part
        rows_grad = None if joined_rd is None else torch.empty_like(joined_rd).index_copy_(0, order_r, joined_rd)
        return rows_grad, weight_grad, grad_ND.sum(0) if for_bias else None, None
