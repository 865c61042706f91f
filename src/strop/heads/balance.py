"""The load-balance value of a layer, and how its gradient joins the task's without a list of losses.

The released code collects the values in a list of the class, which gradient checkpointing doubles and every other
forward pass lengthens. Here the value's gradient enters through the layer's own output (`inject`).

A value belongs to one layer, one forward pass and one process: the mean over the tokens of that micro-batch, as in the
released code. Accumulating gradients averages the values of the micro-batches; that is not the value of all their
tokens together, since f of one micro-batch multiplies P of the same micro-batch only. So no pass waits for another.

Shapes: b batch rows, n queries, c choices of a token, e units among which one choice is made.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch import Tensor

from strop.heads.gates import routing_type

BalanceScale = Literal["released", "paper"]
"""The released code's value is the paper's times e."""


def load_balance(
    probability_bnce: Tensor,
    picked_bnce: Tensor,
    *,
    seen_bn: Tensor | None = None,
    scale: BalanceScale = "released",
) -> Tensor:
    """Measure how unevenly the units of a layer are used: sum over units of P f (MoH eq. 7).

    P is a unit's mean probability and f the share of tokens that pick it, which carries no gradient. Uniform routing
    gives k (paper's scale: k / e), all probability on the same k units gives e (paper: 1), where f is uniform the
    gradient is zero, and values below k exist. Four units, k = 2: tokens (.4, .3, .2, .1) and (.1, .2, .3, .4) give
    2.0 (paper .5), twice the first token 2.8 (.7).

    Args:
        probability_bnce: Softmax over the units, before the choice.
        picked_bnce: True where a unit was picked.
        seen_bn: True for real tokens; padding is left out. All, where not given.
        scale: Whose scale.

    Returns:
        The value, a scalar; the mean over the choices of a token. 0 without gradient where all tokens are padding.
    """
    probability_bnce = probability_bnce.to(routing_type(probability_bnce))
    picked_bnce = picked_bnce.detach().to(probability_bnce.dtype)
    if seen_bn is None:
        mean_ce, used_ce = probability_bnce.mean((0, 1)), picked_bnce.mean((0, 1))
    else:
        weight_bn = seen_bn.to(probability_bnce.dtype)
        weight_bn = weight_bn / weight_bn.sum().clamp(min=1.0)
        mean_ce = torch.einsum("bn,bnce->ce", weight_bn, probability_bnce)
        used_ce = torch.einsum("bn,bnce->ce", weight_bn, picked_bnce)
    value = (mean_ce * used_ce).sum(-1).mean()
    return value * probability_bnce.shape[-1] if scale == "released" else value


def inject(output: Tensor, value: Tensor, *, coefficient: float) -> Tensor:
    """Pass the output on and, in the backward pass, add the gradient of ``coefficient * value`` to the loss's.

    As if ``coefficient * value`` had been added to the loss, once for each backward pass through `output`: a forward
    pass that gradient checkpointing runs without gradient, or only to restore what it did not keep, adds nothing.

    The coefficient is in the units of what is differentiated. Where a trainer divides the loss by the number of
    micro-batches, or a gradient scaler multiplies it, the coefficient takes the same factor.

    Args:
        output: What the layer gives; must reach the loss.
        value: The load-balance value, a scalar.
        coefficient: Its weight in the loss, the paper's beta (0.01) times the share of this micro-batch.

    Returns:
        `output`, with the value's gradient attached; `output` itself where there is none.
    """
    if coefficient == 0.0 or not (torch.is_grad_enabled() and value.requires_grad):
        return output
    return cast(Tensor, _Inject.apply(output, value, coefficient))  # type: ignore[no-untyped-call]


class _Inject(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: Tensor, value: Tensor, coefficient: float) -> Tensor:
        ctx.coefficient, ctx.value = coefficient, (value.shape, value.dtype, value.device)
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        shape, dtype, device = ctx.value
        return grads[0], torch.full(shape, ctx.coefficient, dtype=dtype, device=device), None
