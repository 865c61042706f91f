"""Projections of one new token's chosen heads by the C++ kernels: the weights of other heads are not read.

Shapes: b batch rows, n queries (1), h query heads, d head width, q = h * d, D model width.
"""

from __future__ import annotations

import ctypes

from torch import Tensor

from strop.errors import UserError
from strop.heads.backends.native_calls import WIDTH_STEP, address, call, require, require_shapes


class _TokenProjection(ctypes.Structure):
    """`TokenProjection` of csrc/token_projections.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("token", "weight", "bias", "chosen")),
        *((name, ctypes.c_int64) for name in ("batch", "heads", "width", "hidden")),
    )


def token_queries(hidden_b1D: Tensor, weight_qD: Tensor, bias_q: Tensor | None, head_mask_bnh: Tensor) -> Tensor:
    """Project one token of each row to the queries of its heads; (b, 1, q), zero for other heads. No gradient.

    Args:
        hidden_b1D: The layer's input; D is a multiple of 16.
        weight_qD: The dense layer's weight.
        bias_q: Its bias.
        head_mask_bnh: True where the token uses a head.
    """
    return _project("strop_token_queries", hidden_b1D, weight_qD, bias_q, head_mask_bnh, sizes=weight_qD.shape)


def token_output(wide_b1q: Tensor, weight_Dq: Tensor, bias_D: Tensor | None, head_mask_bnh: Tensor) -> Tensor:
    """Project what a token's heads give back; (b, 1, D). No gradient.

    Args:
        wide_b1q: What the heads give, gates included; zero for heads that were not chosen.
            Of their weights nothing is read where they are more than half of the heads.
        weight_Dq: The dense layer's weight; D is a multiple of 16.
        bias_D: Its bias.
        head_mask_bnh: True where the token uses a head.
    """
    return _project("strop_token_output", wide_b1q, weight_Dq, bias_D, head_mask_bnh, sizes=weight_Dq.T.shape)


def _project(
    name: str,
    token_b1x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    head_mask_bnh: Tensor,
    *,
    sizes: tuple[int, ...],
) -> Tensor:
    """Call a kernel; `sizes` are q and D."""
    (batch, _, heads), (wide, model) = head_mask_bnh.shape, sizes
    out_width, in_width = weight.shape
    width = wide // heads
    require(token_b1x, weight, bias, head_width=width)
    if model % WIDTH_STEP:
        raise UserError(
            f"the native kernels want a model width that is a multiple of {WIDTH_STEP}", value=model, fix="use linear"
        )
    require_shapes(
        token=(token_b1x.shape, (batch, 1, in_width)),
        head_mask_bnh=(head_mask_bnh.shape, (batch, 1, heads)),
        heads=((heads * width,), (wide,)),
        bias=((out_width,) if bias is None else bias.shape, (out_width,)),
    )
    kept = token_b1x.contiguous(), weight.contiguous(), bias, head_mask_bnh.bool().contiguous()
    out = token_b1x.new_empty(batch, 1, out_width)
    call(name, _TokenProjection(*(address(x) for x in kept), batch, heads, width, model), out)
    return out
