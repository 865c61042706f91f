"""The Triton kernels, run by Triton's interpreter; `test_triton.py` starts these tests in a process of their own.

Errors are the largest absolute one over the largest absolute value, against dense attention with gates in fp64.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch
from torch import Tensor

if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("Triton's interpreter is off", allow_module_level=True)

from head_cases import ROUTINGS, SIGHTS, HeadCase, HeadProblem, build, naive_attention, relative_error
from strop.errors import UserError
from strop.heads.attention import moh_attention
from strop.heads.backends import triton
from strop.heads.backends.reference import gated_attention
from strop.heads.backends.triton_tiles import Blocks
from strop.heads.plan import routing_plan
from strop.heads.visibility import Visible

SMALL = Blocks(rows=16, keys=16, backward_keys=16, walked_rows=16, owned_keys=16)
"""Short sequences then have whole blocks, edges and several tiles, as long ones have with the usual sizes."""
BOUND = 1e-5
FAST = {("skewed", "left_padding"), ("per_group", "window")}
CASES = [
    pytest.param(routing, sight, marks=[] if (routing, sight) in FAST else [pytest.mark.slow])
    for routing in ROUTINGS
    for sight in SIGHTS
]


def by_kernels(problem: HeadProblem, blocks: Blocks | None, splits: int | None = None) -> list[Tensor]:
    """Return the output and the gradients in query, key and value."""
    plan = problem.plan
    leaves = [x.detach().clone().requires_grad_() for x in (problem.query_bhnd, problem.key_bgtd, problem.value_bgtd)]
    query, key, value = leaves
    scale = query.shape[-1] ** -0.5
    rows_rd = triton.attend(plan.pack(query), key, value, plan=plan, scale=scale, blocks=blocks, splits=splits)
    return [rows_rd.detach(), *torch.autograd.grad(plan.unpack(rows_rd), leaves, problem.cotangent_bhnd)]


def by_definition(problem: HeadProblem) -> list[Tensor]:
    """Return the same in fp64."""
    leaves = [x.double().requires_grad_() for x in (problem.query_bhnd, problem.key_bgtd, problem.value_bgtd)]
    query, key, value = leaves
    out = naive_attention(query, key, value, problem.visible) * problem.mask_bnh.permute(0, 2, 1)[..., None]
    found = torch.autograd.grad(out, leaves, problem.cotangent_bhnd.double())
    return [problem.plan.pack(out.detach()), *found]


def worst(got: list[Tensor], want: list[Tensor]) -> float:
    """Return the largest error among output and gradients."""
    assert all(torch.isfinite(x).all() for x in got)
    return max(relative_error(g, w) for g, w in zip(got, want, strict=True))


@pytest.mark.parametrize(("routing", "sight"), CASES)
def test_exact_for_every_routing_and_sight(routing: str, sight: str) -> None:
    case = HeadCase(
        queries=53, batch=2, groups=2, heads_per_group=3, width=16, chosen=2, routing=routing, sight=sight, seed=11
    )
    problem = build(case)
    assert worst(by_kernels(problem, SMALL), by_definition(problem)) < BOUND


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(HeadCase(queries=128, groups=2, width=64, routing="skewed"), marks=pytest.mark.slow),
        pytest.param(HeadCase(queries=127, groups=1, heads_per_group=4, width=128, chosen=2), marks=pytest.mark.slow),
        pytest.param(HeadCase(queries=65, groups=3, width=40, chosen=2, sight="window"), marks=pytest.mark.slow),
        pytest.param(HeadCase(queries=33, groups=1, heads_per_group=8, width=256, chosen=3), marks=pytest.mark.slow),
        HeadCase(queries=1, groups=1, width=1),
    ],
)
def test_exact_with_the_usual_sizes(case: HeadCase) -> None:
    problem = build(case)
    assert worst(by_kernels(problem, None), by_definition(problem)) < BOUND


@pytest.mark.slow
@pytest.mark.parametrize("routing", ["groups", "uniform", "ragged"])
@pytest.mark.parametrize("splits", [1, 2, 8])
def test_one_new_token(routing: str, splits: int) -> None:
    """Two sequences behind 41 and 70 keys in a cache with places for 96; some parts of the walk are empty."""
    case = HeadCase(queries=1, batch=2, groups=4, heads_per_group=2, width=32, chosen=2, routing=routing, seed=3)
    problem = build(case)
    first_bn, last_bn = torch.tensor([[2], [0]], dtype=torch.int32), torch.tensor([[42], [69]], dtype=torch.int32)
    key_bgtd, value_bgtd = torch.randn(2, 2, 4, 96, 32, generator=torch.Generator().manual_seed(1))
    visible = Visible(first_bn, last_bn, 96)
    problem = replace(problem, key_bgtd=key_bgtd, value_bgtd=value_bgtd, visible=visible)
    assert worst(by_kernels(problem, SMALL, splits), by_definition(problem)) < BOUND


def test_decoding_cuts_the_walk_by_itself() -> None:
    problem = build(HeadCase(queries=1, groups=2, heads_per_group=4, width=16, chosen=3, sight="cached", seed=90))
    plan, scale = problem.plan, 0.25
    query_rd = plan.pack(problem.query_bhnd)
    assert triton._splits(plan, query_rd.device) == triton.INTERPRETED_SPLITS
    got = triton.decode(query_rd, problem.key_bgtd, problem.value_bgtd, plan=plan, scale=scale)
    assert relative_error(got, by_definition(problem)[0]) < BOUND


def by_torch(problem: HeadProblem) -> list[Tensor]:
    """Return what torch's own kernel gives for the same types."""
    leaves = [x.detach().clone().requires_grad_() for x in (problem.query_bhnd, problem.key_bgtd, problem.value_bgtd)]
    query, key, value = leaves
    scale, gate_bnh = query.shape[-1] ** -0.5, problem.mask_bnh.to(query.dtype)
    out = gated_attention(query, key, value, gate_bnh=gate_bnh, visible=problem.visible, scale=scale)
    found = torch.autograd.grad(out, leaves, problem.cotangent_bhnd)
    return [problem.plan.pack(out.detach()), *found]


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_short_types_are_summed_in_float32(kind: torch.dtype) -> None:
    """As near to fp64 as torch's own kernel, all starting from the same rounded numbers, or within one last place more.

    The interpreter cuts numbers where a GPU rounds them.
    """
    problem = build(HeadCase(queries=60, groups=2, heads_per_group=2, width=32, chosen=2))
    names = ("query_bhnd", "key_bgtd", "value_bgtd", "cotangent_bhnd")
    problem = replace(problem, **{name: getattr(problem, name).to(kind) for name in names})
    got, want = by_kernels(problem, SMALL), by_definition(problem)
    assert all(x.dtype == kind for x in got)
    assert worst(got, want) < worst(by_torch(problem), want) + torch.finfo(kind).eps


@pytest.mark.slow
def test_the_same_bits_every_time() -> None:
    problem = build(HeadCase(queries=40, groups=1, heads_per_group=4, width=16, chosen=2, routing="skewed"))
    once, again = by_kernels(problem, SMALL), by_kernels(problem, SMALL)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


@pytest.mark.slow
def test_keys_and_values_as_a_model_lays_them_out() -> None:
    """(b, t, g, d) in memory; and the gradients come back in the shape that was given."""
    problem = build(HeadCase(queries=37, batch=2, groups=2, width=16))
    want = by_definition(problem)
    turned = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (problem.key_bgtd, problem.value_bgtd)]
    got = by_kernels(replace(problem, key_bgtd=turned[0], value_bgtd=turned[1]), SMALL)
    assert worst(got, want) < BOUND


def test_no_head_chosen_at_all() -> None:
    problem = build(HeadCase(queries=9, groups=2, width=16))
    got = by_kernels(replace(problem, mask_bnh=torch.zeros_like(problem.mask_bnh)), None)
    assert got[0].shape == (0, 16)
    assert all(bool((x == 0).all()) for x in got)


def test_rows_that_see_nothing_give_zero() -> None:
    problem = build(HeadCase(queries=20, groups=2, width=16, routing="all"))
    nothing = Visible(torch.zeros(1, 20, dtype=torch.int32), torch.full((1, 20), -1, dtype=torch.int32), 20)
    got = by_kernels(replace(problem, visible=nothing), SMALL)
    assert all(bool((x == 0).all()) for x in got)


@pytest.mark.slow
def test_only_the_queries_want_a_gradient() -> None:
    problem = build(HeadCase(queries=20, groups=2, width=16))
    query_bhnd = problem.query_bhnd.requires_grad_()
    out = moh_attention(query_bhnd, problem.key_bgtd, problem.value_bgtd, plan=problem.plan, backend="triton")
    (dquery_bhnd,) = torch.autograd.grad(out, query_bhnd, problem.cotangent_bhnd)
    assert relative_error(dquery_bhnd, by_definition(problem)[1]) < BOUND


def test_what_the_kernels_do_not_take() -> None:
    problem = build(HeadCase(queries=4, groups=1, width=16))
    plan, query_rd = problem.plan, problem.plan.pack(problem.query_bhnd)
    assert triton.missing(query_rd, plan) is None
    assert "float64" in str(triton.missing(query_rd.double(), plan))
    assert "width" in str(triton.missing(query_rd.new_zeros(4, 512), plan))
    with pytest.raises(UserError, match="one type"):
        triton.attend(query_rd, problem.key_bgtd.half(), problem.value_bgtd, plan=plan, scale=1.0)


@pytest.mark.slow
def test_a_plan_of_whole_batches() -> None:
    """Batch rows do not see each other: each alone gives what it gives in the batch."""
    problem = build(HeadCase(queries=21, batch=2, groups=2, width=16, routing="skewed", sight="left_padding"))
    together = moh_attention(
        problem.query_bhnd, problem.key_bgtd, problem.value_bgtd, plan=problem.plan, backend="triton"
    )
    for row in range(2):
        visible = Visible(problem.visible.first_bn[row, None], problem.visible.last_bn[row, None], 21)
        plan = routing_plan(problem.mask_bnh[row, None], groups=2, visible=visible)
        tensors = (problem.query_bhnd[row, None], problem.key_bgtd[row, None], problem.value_bgtd[row, None])
        alone = moh_attention(*tensors, plan=plan, backend="triton")
        assert torch.allclose(alone[0], together[row], atol=1e-6)
