"""Projections of one new token for the mixture-of-head benchmark: weights come from memory, as in a whole model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

COLD_BYTES = 200e6
"""Weights that are used in turn: more than any cache holds."""


@dataclass(frozen=True)
class TokenSize:
    """A layer: model width, query heads, width of each, heads that the token uses."""

    model: int
    heads: int
    width: int
    chosen: int

    def __str__(self) -> str:
        """For a table."""
        return f"width {self.model:,}, {self.chosen} of {self.heads} heads of {self.width}"


TOKEN_SIZES = (
    TokenSize(576, 9, 64, 6),
    TokenSize(1024, 16, 64, 8),
    TokenSize(4096, 32, 128, 24),
    TokenSize(4096, 32, 128, 16),
)


def token_ways(size: TokenSize, *, output: bool) -> dict[str, Callable[[], None]]:
    """Return the query projections, or the output projections, of a model's layers by torch and by the C++ kernels."""
    from strop.heads.backends import native

    torch.manual_seed(0)
    wide = size.heads * size.width
    shape = (size.model, wide) if output else (wide, size.model)
    weights = [torch.randn(shape) for _ in range(max(2, int(COLD_BYTES / (4 * wide * size.model))))]
    chosen = torch.zeros(1, 1, size.heads, dtype=torch.bool)
    chosen[..., torch.randperm(size.heads)[: size.chosen]] = True
    token = torch.randn(1, 1, shape[1])
    if output:
        token *= chosen.repeat_interleave(size.width, dim=-1)
    project = native.token_output if output else native.token_queries
    every = torch.ones_like(chosen)
    return {
        "dense": _over(weights, lambda weight: linear(token, weight)),
        "native": _over(weights, lambda weight: project(token, weight, None, chosen)),
        "native, all heads": _over(weights, lambda weight: project(token, weight, None, every)),
    }


def _over(weights: Sequence[Tensor], project: Callable[[Tensor], Tensor]) -> Callable[[], None]:
    def run() -> None:
        with torch.inference_mode():
            for weight in weights:
                project(weight)

    return run
