"""C++ kernels on the CPU, built on first use: attention of the packed rows, forward and backward.

float32 only, and head widths that are a multiple of 16 up to 256; results do not depend on the number of threads.
Needs a C++ compiler and a processor with AVX2 and FMA or AVX-512; `available` says what is missing.

Shapes: b batch rows, g KV heads, t keys, d head width, r rows of the plan.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from strop.heads.backends.native_build import load
from strop.heads.backends.native_calls import address, call, require, require_shapes, why_not
from strop.heads.backends.native_decoding import decode
from strop.heads.backends.native_projections import project_output, project_queries
from strop.heads.backends.native_token_projections import token_output, token_queries
from strop.heads.plan import RoutingPlan

__all__ = [
    "attend",
    "available",
    "decode",
    "missing",
    "project_output",
    "project_queries",
    "token_output",
    "token_queries",
]

WANTED_TASKS = 8
FEWEST_KEYS = 1024
"""A cut costs another preparation of the rows, so short segments stay whole. Threads have no say in it, or else the
gradients would depend on them."""


class _Problem(ctypes.Structure):
    """`Problem` of csrc/rows.hpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("query", "key", "value", "offset", "first", "last")),
        *((name, ctypes.c_int64) for name in ("segments", "groups", "keys", "width")),
        *((name, ctypes.c_int64) for name in ("key_batch", "key_group", "key_token")),
        *((name, ctypes.c_int64) for name in ("value_batch", "value_group", "value_token")),
        ("scale", ctypes.c_float),
    )
    kept: tuple[Tensor, ...]


class _Gradients(ctypes.Structure):
    """`Gradients` of csrc/attention_gradient.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("out", "softmax", "out_gradient", "query", "key", "value")),
        *((name, ctypes.c_int64) for name in ("ranges", "rows")),
    )


def available() -> str | None:
    """Say why there are no kernels on this machine, or None where there are; builds them on the first call."""
    return load().why


def missing(query: Tensor, plan: RoutingPlan) -> str | None:
    """Say why this call cannot run here, or None where it can."""
    return why_not(query, query.shape[-1])


def attend(query_rd: Tensor, key_bgtd: Tensor, value_bgtd: Tensor, *, plan: RoutingPlan, scale: float) -> Tensor:
    """Attend from every row to the keys that it sees; (r, d), zero for rows that see nothing. Differentiable once.

    Args:
        query_rd: The plan's rows.
        key_bgtd: Keys; any strides but the last.
        value_bgtd: Values, of the keys' width.
        plan: The chosen pairs.
        scale: Of the scores.
    """
    require(query_rd, key_bgtd, value_bgtd, head_width=query_rd.shape[-1])
    keys = max(plan.visible.keys, key_bgtd.shape[2])  # a cache may be longer than what is seen of it
    wanted = plan.batch, plan.groups, keys, query_rd.shape[-1]
    require_shapes(
        query_rd=(query_rd.shape, (plan.rows, wanted[-1])),
        key_bgtd=(key_bgtd.shape, wanted),
        value_bgtd=(value_bgtd.shape, wanted),
    )
    if torch.is_grad_enabled() and (query_rd.requires_grad or key_bgtd.requires_grad or value_bgtd.requires_grad):
        out_rd: Tensor = _Attend.apply(query_rd, key_bgtd, value_bgtd, plan, scale)  # type: ignore[no-untyped-call]
        return out_rd
    return _attend(query_rd.contiguous(), _readable(key_bgtd), _readable(value_bgtd), plan, scale)[0]


def _attend(query: Tensor, key: Tensor, value: Tensor, plan: RoutingPlan, scale: float) -> tuple[Tensor, Tensor]:
    """Return the output, and the peak and the sum of each row's scores."""
    out, softmax = torch.empty_like(query), query.new_empty(2, plan.rows)
    call("strop_attend", _problem(query, key, value, plan, scale), out, softmax)
    return out, softmax


class _Attend(torch.autograd.Function):
    """Attention of packed rows; keeps the peak and the sum of each row's scores for the gradient."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, plan: RoutingPlan, scale: float) -> Tensor:
        query, key, value = query.contiguous(), _readable(key), _readable(value)
        out, softmax = _attend(query, key, value, plan, scale)
        ctx.save_for_backward(query, key, value, out, softmax)
        ctx.plan, ctx.scale = plan, scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, out_gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, softmax = ctx.saved_tensors
        out_gradient, plan = out_gradient.contiguous(), ctx.plan
        ranges = _ranges(plan, key.shape[1], key.shape[2])
        query_gradient = query.new_zeros(ranges, *query.shape)
        key_gradient, value_gradient = key.new_zeros(key.shape), value.new_zeros(value.shape)
        tensors = out, softmax, out_gradient, query_gradient, key_gradient, value_gradient
        arguments = _Gradients(*(address(tensor) for tensor in tensors), ranges, plan.rows)
        call("strop_attend_gradient", _problem(query, key, value, plan, ctx.scale), arguments)
        query_gradient = query_gradient[0] if ranges == 1 else query_gradient.sum(0)
        return query_gradient, key_gradient, value_gradient, None, None


def _ranges(plan: RoutingPlan, groups: int, keys: int) -> int:
    """Into how many ranges the keys of a segment are cut in the backward pass: enough for a few threads."""
    return max(1, min(-(-WANTED_TASKS // (plan.batch * groups)), keys // FEWEST_KEYS))


def _problem(query: Tensor, key: Tensor, value: Tensor, plan: RoutingPlan, scale: float) -> _Problem:
    """Return the arguments for C."""
    kept = query, key, value, plan.offset_s.contiguous(), plan.first_r.contiguous(), plan.last_r.contiguous()
    groups, keys = key.shape[1], key.shape[2]
    sizes = plan.batch * groups, groups, keys, query.shape[-1]
    strides = *key.stride()[:3], *value.stride()[:3]
    problem = _Problem(*(address(tensor) for tensor in kept), *sizes, *strides, scale)
    problem.kept = kept
    return problem


def _readable(tensor_bgtd: Tensor) -> Tensor:
    """Return the tensor with the numbers of one token side by side; the other strides do not matter."""
    return tensor_bgtd if tensor_bgtd.stride(-1) == 1 else tensor_bgtd.contiguous()
