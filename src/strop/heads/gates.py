"""How much a head counts and which heads a token takes: pure functions, in float32 whatever the model's type.

bfloat16 loses the order of heads: the released LLaMA route picks another set for 3 % of tokens because its softmax is
rounded before the choice. Here float16 and bfloat16 become float32 first; float64 stays float64, for tests.

Shapes: b batch rows, n queries, s shared heads, e units among which one choice is made, c choices of a token (1, or one
for each KV group).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from strop.errors import UserError

Style = Literal["released", "paper"]
"""The released code's gates, which are 1 with an untrained router, or the paper's literal ones, which sum to at most 1
and so shrink what the layer gives."""

STYLES: tuple[Style, ...] = get_args(Style)

EQUAL_NORMS = 8
"""Norms whose spread is below this many roundings of the largest are equal: what is left is not a choice."""


def routing_type(values: Tensor) -> torch.dtype:
    """Return the type in which these values are routed: float64 for float64, else float32."""
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def softmax(logits: Tensor) -> Tensor:
    """Take the softmax over the last dimension, in the type of routing.

    On a CPU in steps: torch's kernel spends five times as long on a last dimension of a few units.
    """
    logits = logits.to(routing_type(logits))
    if logits.device.type != "cpu":
        return logits.softmax(-1)
    weight = (logits - logits.detach().amax(-1, keepdim=True)).exp()
    return weight / weight.sum(-1, keepdim=True)


def two_stage_gates(
    shared_bns: Tensor | None,
    routed_bnce: Tensor | None,
    stage_bn2: Tensor | None,
    picked_bnce: Tensor | None,
    *,
    style: Style,
) -> tuple[Tensor | None, Tensor | None]:
    """Weigh shared and routed heads against each other and among themselves (MoH eq. 5 and 6; spec of the code: ViT).

    With ``a = softmax(stage)``, paper: ``a1 softmax(shared)`` and, where picked, ``a2 softmax(routed)`` over all units.
    Released: ``2 a1 s softmax(shared)`` and ``2 a2 k softmax(routed)`` renormalised over the k picked. Every choice of
    a token is weighted for itself, so with several choices the paper's gates sum to ``a1 + c a2`` at most.

    Two shared and three routed heads, k = 2, stage logits (0, 0), softmax(shared) = (.75, .25), softmax(routed) =
    (.5, .3, .2): paper .375 .125 .25 .15 0 (sum .9), released 1.5 .5 1.25 .75 0 (sum 4 = s + k).

    Args:
        shared_bns: Logits of the shared heads; None without weights of theirs: no shared head, or one, which takes
            the whole of its stage.
        routed_bnce: Logits of the routed units, or (b, n, e) for one choice; None where every head is shared.
        stage_bn2: Logits of the two stages; None where there is only one stage, which then takes all: nothing shared,
            or everything (weighted full attention).
        picked_bnce: True where a unit was picked, shaped as `routed_bnce`.
        style: Whose gates.

    Returns:
        Gates of the shared heads (b, n, s) and of the routed units, as `routed_bnce`, zero where not picked. None
        where there are none. One shared head without logits has shape (b, n, 1).

    Raises:
        UserError: An unknown style, or neither shared nor routed logits.
    """
    if style not in STYLES:
        raise UserError("there is no such style of gates", value=style, alternatives=STYLES)
    stage_bn2 = None if stage_bn2 is None else softmax(stage_bn2) * (2.0 if style == "released" else 1.0)
    shared_gate = None
    if shared_bns is not None:
        shared_gate = softmax(shared_bns) * (float(shared_bns.shape[-1]) if style == "released" else 1.0)
        shared_gate = shared_gate if stage_bn2 is None else shared_gate * stage_bn2[..., :1]
    elif stage_bn2 is not None:
        shared_gate = stage_bn2[..., :1]
    if routed_bnce is None or picked_bnce is None:
        if shared_gate is None:
            raise UserError("there is no head to weigh", fix="give the logits of shared or of routed heads")
        return shared_gate, None
    routed_gate = _picked_weights(routed_bnce, picked_bnce, style=style)
    if stage_bn2 is not None:
        share_bn1 = stage_bn2[..., 1:]
        routed_gate = routed_gate * (share_bn1 if routed_gate.dim() == 3 else share_bn1[..., None])
    return shared_gate, routed_gate


def _picked_weights(routed_bnce: Tensor, picked_bnce: Tensor, *, style: Style) -> Tensor:
    if style == "paper":
        return softmax(routed_bnce).masked_fill(~picked_bnce, 0.0)
    # Renormalising the picked probabilities is the softmax over the picked: no small sum to divide by.
    logits_bnce = routed_bnce.to(routing_type(routed_bnce)).masked_fill(~picked_bnce, float("-inf"))
    return softmax(logits_bnce) * picked_bnce.sum(-1, keepdim=True)


def top_k(score_bnce: Tensor, k: int) -> Tensor:
    """Pick the k largest of every choice (MoH eq. 5), ties to the lowest index.

    By a stable sort, which torch defines alike on every device (`torch.topk` leaves ties open). A NaN counts as larger
    than every number, so exactly k are picked whatever comes; routers refuse NaN before (`refuse_bad_scores`).

    Args:
        score_bnce: Scores; the last dimension holds the units of one choice.
        k: How many, 0 to e.

    Returns:
        True where picked, exactly k in the last dimension; no gradient.

    Raises:
        UserError: `k` out of range.
    """
    units = score_bnce.shape[-1]
    if not 0 <= k <= units:
        raise UserError(f"one cannot pick that many of {units} units", value=k, fix=f"set k between 0 and {units}")
    if k in (0, units):
        return torch.full_like(score_bnce, k == units, dtype=torch.bool)
    score_bnce = score_bnce.detach().to(routing_type(score_bnce)) + 0.0  # -0.0 becomes 0.0, its equal
    index_bnck = score_bnce.sort(dim=-1, descending=True, stable=True).indices[..., :k]
    return torch.zeros_like(score_bnce, dtype=torch.bool).scatter_(-1, index_bnck, True)


def norm_score(norm_bnce: Tensor) -> Tensor:
    """Turn query norms into probabilities: softmax(norm / standard deviation) (released LLaMA code).

    The deviation is the unbiased one over the units of the choice, differentiated too. Computed as a softmax of
    z-scores, the same function: ``|z| <= (e - 1) / sqrt(e)``. Scaling all norms changes nothing. Norms (5, 4, 2, 1):
    deviation 1.82574, scores .53094 .30702 .10267 .05937.

    Where the released code gives NaN, this is defined: equal norms (also zero ones, and ones so small that their
    gradient would overflow, under 1.2e-32) and a single unit are uniform and have no gradient. With two units the
    scores are .804 and .196 whatever the norms, so their gradient is zero.

    Args:
        norm_bnce: Norms, 0 or more, finite.

    Returns:
        As `norm_bnce`; the last dimension sums to 1.
    """
    norm_bnce = norm_bnce.to(routing_type(norm_bnce))
    units = norm_bnce.shape[-1]
    if units == 1:
        return torch.ones_like(norm_bnce)
    largest = norm_bnce.detach().amax(-1, keepdim=True)
    # Squares of very small or large norms would vanish or overflow; the scale cancels, so it needs no gradient.
    kind = torch.finfo(norm_bnce.dtype)
    smallest = kind.tiny / (EQUAL_NORMS * kind.eps)
    norm_bnce = norm_bnce / torch.where(largest >= smallest, largest, 1.0)
    centred = norm_bnce - norm_bnce.mean(-1, keepdim=True)
    variance = centred.square().sum(-1, keepdim=True) / (units - 1)
    equal = variance <= (EQUAL_NORMS * kind.eps) ** 2
    # The inner `where` keeps the root's infinite slope at 0 out of the gradient of the branch that is not taken.
    z_score = centred * torch.where(equal, 1.0, variance).rsqrt()
    return softmax(torch.where(equal, 0.0, z_score))


def straight_through(mask: Tensor, score: Tensor) -> Tensor:
    """Gate with the mask forward and with the score backward (MoH eq. 9 and 10).

    The paper does not say which real-valued gate is meant; this takes the score's, on the routed units: shared gates
    are constant. A unit that was not picked has gate 0 and a gradient, which needs that unit's output: a sparse backend
    never computes it, so there the gradient reaches picked units only.

    Args:
        mask: True, or 1, where picked.
        score: Real-valued scores, in the mask's shape.

    Returns:
        Exactly 0 and 1, with the gradient of `score`.
    """
    # The difference first: it is exactly 0, while 1 + score would round.
    return mask.to(score.dtype) + (score - score.detach())


def refuse_bad_scores(score: Tensor, *, what: str) -> None:
    """Refuse scores of which one is NaN or infinite, before anything is computed from them.

    One reduction over (b, n, h) numbers. On an accelerator it waits for the device, as packing the rows does anyway;
    there it is left out for single tokens (decoding, whose prompt was checked) and under `torch.compile`.

    Args:
        score: Scores of heads, (b, n, ...).
        what: What they were computed from, for the message.

    Raises:
        UserError: A score is not finite.
    """
    if torch.compiler.is_compiling() or (score.device.type != "cpu" and score.shape[1] == 1):
        return
    if not bool(score.detach().isfinite().all()):
        raise UserError(
            f"a layer cannot route: {what} are not all finite",
            why="a NaN or an infinite value came in, so which heads are the best is not defined",
            fix="look for an overflow before this layer: load the model in bfloat16 or float32 where it is float16",
        )
