"""Random problems of mixture-of-head attention, their answers in fp64, and how far an answer is from another.

Shapes: b batch rows, n queries, t keys, h query heads, g KV heads, d head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from strop.heads import visibility
from strop.heads.plan import RoutingPlan, routing_plan
from strop.heads.visibility import Visible

ROUTINGS = ("uniform", "skewed", "ragged", "per_group", "all", "groups")
SIGHTS = ("causal", "cached", "everything", "left_padding", "right_padding", "packed", "window")


@dataclass(frozen=True, kw_only=True)
class HeadCase:
    """What makes a problem; `build` makes it, the same each time."""

    queries: int
    batch: int = 1
    groups: int = 2
    heads_per_group: int = 1
    width: int = 64
    chosen: int = 1
    routing: str = "uniform"
    sight: str = "causal"
    seed: int = 0


@dataclass(frozen=True)
class HeadProblem:
    """The tensors of a case, in float32; `cotangent_bhnd` is the gradient of the loss in the output."""

    query_bhnd: Tensor
    key_bgtd: Tensor
    value_bgtd: Tensor
    weight_bnh: Tensor
    mask_bnh: Tensor
    visible: Visible
    cotangent_bhnd: Tensor
    rows_per_group: int | None

    @property
    def plan(self) -> RoutingPlan:
        """The choice, packed."""
        return routing_plan(
            self.mask_bnh, groups=self.key_bgtd.shape[1], visible=self.visible, rows_per_group=self.rows_per_group
        )


@st.composite
def head_cases(
    draw: st.DrawFn,
    *,
    longest: int = 517,
    widths: Sequence[int] = (16, 64),
    members: Sequence[int] = (1, 2, 4, 8),
    routings: Sequence[str] = ROUTINGS,
    sights: Sequence[str] = SIGHTS,
) -> HeadCase:
    """Draw a case of at most `longest` tokens; long ones are as likely as short ones."""
    heads_per_group = draw(st.sampled_from(members))
    groups = draw(st.integers(1, max(1, 4 // heads_per_group)))
    return HeadCase(
        queries=draw(st.one_of(st.integers(1, min(40, longest)), st.integers(1, longest))),
        batch=draw(st.integers(1, 2)),
        groups=groups,
        heads_per_group=heads_per_group,
        width=draw(st.sampled_from(widths)),
        chosen=draw(st.integers(1, groups * heads_per_group)),
        routing=draw(st.sampled_from(routings)),
        sight=draw(st.sampled_from(sights)),
        seed=draw(st.integers(0, 2**20)),
    )


def build(case: HeadCase) -> HeadProblem:
    """Make the tensors of a case."""
    generator = torch.Generator().manual_seed(case.seed)
    visible = _visible(case, generator)
    heads = case.groups * case.heads_per_group

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    mask_bnh, rows_per_group = _choice(case, generator)
    return HeadProblem(
        query_bhnd=normal(case.batch, heads, case.queries, case.width),
        key_bgtd=normal(case.batch, case.groups, visible.keys, case.width),
        value_bgtd=normal(case.batch, case.groups, visible.keys, case.width),
        weight_bnh=normal(case.batch, case.queries, heads),
        mask_bnh=mask_bnh,
        visible=visible,
        cotangent_bhnd=normal(case.batch, heads, case.queries, case.width),
        rows_per_group=rows_per_group,
    )


def _choice(case: HeadCase, generator: torch.Generator) -> tuple[Tensor, int | None]:
    """Choose heads: evenly, by popularity (-log rank), any number from none on, in each group, all, or whole groups."""
    b, n, g, m = case.batch, case.queries, case.groups, case.heads_per_group
    gumbel_bnh = -torch.log(-torch.log(torch.rand(b, n, g * m, generator=generator).clamp(1e-9, 1 - 1e-7)))
    if case.routing == "all":
        return torch.ones(b, n, g * m, dtype=torch.bool), m
    if case.routing == "ragged":
        mask_bnh = gumbel_bnh > gumbel_bnh.median()
        mask_bnh[:, ::3] = False
        mask_bnh[..., 0] = False
        return mask_bnh, None
    if case.routing == "per_group":
        k = 1 + (case.chosen - 1) % m
        return _top(gumbel_bnh.view(b, n, g, m), k).view(b, n, g * m), k
    if case.routing == "groups":
        k = 1 + (case.chosen - 1) % g
        mask_bng = _top(gumbel_bnh.view(b, n, g, m)[..., 0], k)
        return mask_bng.repeat_interleave(m, dim=2), None
    if case.routing == "skewed":
        gumbel_bnh = gumbel_bnh - torch.arange(1, g * m + 1).log()
    return _top(gumbel_bnh, case.chosen), None


def _top(score: Tensor, k: int) -> Tensor:
    return torch.zeros_like(score, dtype=torch.bool).scatter(-1, score.topk(k, dim=-1).indices, True)


def _visible(case: HeadCase, generator: torch.Generator) -> Visible:
    """Make the visible keys; `cached` and `everything` have other numbers of keys than of queries."""
    b, n = case.batch, case.queries
    if case.sight in {"causal", "window"}:
        visible = visibility.causal(b, n)
        return visible if case.sight == "causal" else visibility.windowed(visible, 1 + case.seed % 97)
    if case.sight == "cached":
        return visibility.causal(b, n, n + case.seed % 131)
    if case.sight == "everything":
        return visibility.everything(b, n, 1 + case.seed % 131)
    length_b1 = torch.randint(1, n + 1, (b, 1), generator=generator)
    place_n = torch.arange(n)
    if case.sight == "packed":
        return visibility.packed(torch.where(place_n < length_b1 - 1, 0, length_b1 - 1))
    return visibility.padded(place_n < length_b1 if case.sight == "right_padding" else place_n >= n - length_b1)


def naive_attention(query_bhnd: Tensor, key_bgtd: Tensor, value_bgtd: Tensor, visible: Visible) -> Tensor:
    """Attend with every head, by the definition; zero for queries that see nothing."""
    members = query_bhnd.shape[1] // key_bgtd.shape[1]
    key_bhtd, value_bhtd = (x.repeat_interleave(members, dim=1) for x in (key_bgtd, value_bgtd))
    mask_b1nt = visible.mask_bnt()[:, None]
    score_bhnt = query_bhnd @ key_bhtd.transpose(-1, -2) / query_bhnd.shape[-1] ** 0.5
    share_bhnt = score_bhnt.masked_fill(~mask_b1nt, -1e30).softmax(-1).masked_fill(~mask_b1nt, 0.0)
    out_bhnd: Tensor = share_bhnt @ value_bhtd
    return out_bhnd


def relative_error(got: Tensor, want: Tensor) -> float:
    """Return the largest absolute error over the largest absolute value; against (rounded) zeros the error itself."""
    if want.numel() == 0:
        return 0.0
    error = (got.detach().double() - want.detach().double()).abs().max()
    largest = want.detach().double().abs().max()
    return float(error / largest if largest > 1e-13 else error)
