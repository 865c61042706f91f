"""Routing by the C++ library: from the scores of a layer's router to heads and gates in one call, without a gradient.

The same choice as `strop.heads.gates`, ties to the lowest index, and the same gates to a rounding.

Shapes: b batch rows, n queries, h query heads, s shared heads, e units among which one choice is made, c choices of a
token, w scores of a token.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache

import torch
from torch import Tensor

from strop.heads.backends.native_build import load
from strop.heads.backends.native_calls import address, call, require_shapes
from strop.heads.gates import STYLES, Style, refuse_bad_scores
from strop.heads.layout import HeadLayout
from strop.heads.routing import Routing

WITHOUT_GATES = len(STYLES)
"""Behind the styles in `Style` of csrc/routing.cpp."""


class _Choice(ctypes.Structure):
    """`Choice` of csrc/routing.cpp."""

    _fields_ = (
        ("score", ctypes.c_void_p),
        ("source", ctypes.POINTER(ctypes.c_int32)),
        *((name, ctypes.c_int64) for name in ("tokens", "heads", "shared", "shared_scores")),
        *((name, ctypes.c_int64) for name in ("choices", "units", "active", "stages", "style")),
    )


class _Chosen(ctypes.Structure):
    """`Chosen` of csrc/routing.cpp."""

    _fields_ = (*((name, ctypes.c_void_p) for name in ("mask", "picked", "gate")), ("unfit", ctypes.c_int64))


def takes(score: Tensor) -> bool:
    """Say whether the library can route by these scores: float32 on the CPU, and it could be built."""
    if score.device.type != "cpu" or score.dtype != torch.float32 or torch.compiler.is_compiling():
        return False
    return load().why is None


def route(
    score_bnw: Tensor, layout: HeadLayout, *, style: Style | None, shared_scores: int = 0, stages: int = 0, what: str
) -> Routing:
    """Choose the heads of each token and weigh them; no probabilities.

    Args:
        score_bnw: Of each token: of the shared heads, of the units in order of their heads, of the two stages.
        layout: The layer's heads, some of which are routed.
        style: Whose gates; None without gates, as by query norm.
        shared_scores: How many of the scores are shared heads': s, or 0 where these are not weighed among each other.
        stages: How many are the stages': 2 or 0.
        what: What the scores are, for the message.

    Raises:
        UserError: A score is not finite.
    """
    b, n, _ = score_bnw.shape
    units = layout.choices * layout.units
    require_shapes(score_bnw=(score_bnw.shape, (b, n, shared_scores + units + stages)))
    score_bnw = score_bnw.detach().contiguous()
    mask_bnh = score_bnw.new_empty(b, n, layout.query_heads, dtype=torch.bool)
    picked_bnce = score_bnw.new_empty(b, n, layout.choices, layout.units, dtype=torch.bool)
    gate_bnh = None if style is None else score_bnw.new_empty(b, n, layout.query_heads)
    sizes = b * n, layout.query_heads, len(layout.shared), shared_scores, layout.choices, layout.units, layout.active
    kind = WITHOUT_GATES if style is None else STYLES.index(style)
    choice = _Choice(address(score_bnw), _numbers(layout.sources), *sizes, stages, kind)
    chosen = _Chosen(*(address(x) for x in (mask_bnh, picked_bnce, gate_bnh)))
    call("strop_route", choice, chosen)
    if chosen.unfit:
        refuse_bad_scores(score_bnw, what=what)
    return Routing(mask_bnh=mask_bnh, gate_bnh=gate_bnh, picked_bnce=picked_bnce)


@lru_cache(maxsize=512)
def _numbers(values: tuple[int, ...]) -> ctypes.Array[ctypes.c_int32]:
    return (ctypes.c_int32 * len(values))(*values)
