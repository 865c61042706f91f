"""Projections of chosen pairs: what the dense layers give for them, with the same gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from head_cases import ROUTINGS, HeadCase, build, relative_error
from strop.heads.attention import using
from strop.heads.plan import RoutingPlan
from strop.heads.projections import project_output, project_queries

HIDDEN = 24
BACKENDS = ("gathered", "auto")


def queries_by_definition(hidden: Tensor, weight: Tensor, bias: Tensor | None, plan: RoutingPlan) -> Tensor:
    dense = torch.nn.functional.linear(hidden, weight, bias)
    return plan.pack(dense.view(plan.batch, plan.queries, plan.heads, -1).transpose(1, 2))


def output_by_definition(
    rows: Tensor, weight: Tensor, bias: Tensor | None, plan: RoutingPlan, gate: Tensor | None
) -> Tensor:
    out_bnhd = plan.unpack(rows).transpose(1, 2)
    out_bnhd = out_bnhd if gate is None else out_bnhd * gate[..., None]
    return torch.nn.functional.linear(out_bnhd.flatten(2), weight, bias)


def normal(*shape: int, double: bool = False) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64 if double else torch.float32).requires_grad_()


def compare(got: Tensor, want: Tensor, leaves: list[Tensor]) -> None:
    cotangent = torch.randn_like(want)
    pairs = [(got, want)]
    pairs += zip(*(torch.autograd.grad(x, leaves, cotangent.to(x.dtype)) for x in (got, want)), strict=True)
    assert all(relative_error(a, b) < 1e-6 for a, b in pairs)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("routing", ROUTINGS)
@pytest.mark.parametrize("biased", [True, False])
def test_queries_of_chosen_pairs(routing: str, biased: bool, backend: str) -> None:
    torch.manual_seed(0)
    case = HeadCase(queries=33, batch=2, groups=2, heads_per_group=2, width=16, chosen=2, routing=routing)
    plan = build(case).plan
    hidden, weight, bias = normal(2, 33, HIDDEN), normal(64, HIDDEN), normal(64) if biased else None
    got = project_queries(hidden, weight, bias, plan, head_width=16, backend=backend)
    leaves = [x for x in (hidden, weight, bias) if x is not None]
    compare(got, queries_by_definition(hidden, weight, bias, plan), leaves)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("routing", ROUTINGS)
@pytest.mark.parametrize("gated", [True, False])
def test_output_of_chosen_pairs(routing: str, gated: bool, backend: str) -> None:
    torch.manual_seed(0)
    case = HeadCase(queries=33, batch=2, groups=2, heads_per_group=2, width=16, chosen=2, routing=routing)
    plan = build(case).plan
    rows, weight, bias = normal(plan.rows, 16), normal(HIDDEN, 64), normal(HIDDEN)
    gate = normal(2, 33, 4) if gated else None
    got = project_output(rows, weight, bias, plan, gate_bnh=gate, backend=backend)
    leaves = [x for x in (rows, weight, bias, gate) if x is not None]
    compare(got, output_by_definition(rows, weight, bias, plan, gate), leaves)


def test_gradients_are_those_of_finite_differences() -> None:
    """In float64, which the native kernels do not take: the torch way."""
    torch.manual_seed(0)
    plan = build(HeadCase(queries=7, groups=2, heads_per_group=2, routing="ragged")).plan
    hidden, query, bias = normal(1, 7, 5, double=True), normal(12, 5, double=True), normal(12, double=True)
    assert torch.autograd.gradcheck(lambda x, w, b: project_queries(x, w, b, plan, head_width=3), (hidden, query, bias))
    rows, output = normal(plan.rows, 3, double=True), normal(5, 12, double=True)
    gate, bias = normal(1, 7, 4, double=True), normal(5, double=True)
    assert torch.autograd.gradcheck(
        lambda r, w, b, g: project_output(r, w, b, plan, gate_bnh=g), (rows, output, bias, gate)
    )


def test_a_token_without_heads_gets_the_bias() -> None:
    """Every third token of a ragged routing has no head."""
    plan = build(HeadCase(queries=9, groups=2, heads_per_group=2, width=16, routing="ragged")).plan
    bias = torch.arange(5.0)
    for backend in BACKENDS:
        out = project_output(torch.randn(plan.rows, 16), torch.randn(5, 64), bias, plan, backend=backend)
        assert torch.equal(out[0, ::3], bias.expand(3, 5))


@pytest.mark.parametrize("name", ["gathered", "native"])
def test_no_pair_at_all(name: str) -> None:
    problem = build(HeadCase(queries=4, groups=2, heads_per_group=1, width=16))
    plan = replace(problem, mask_bnh=torch.zeros_like(problem.mask_bnh)).plan
    with using(name):
        rows = project_queries(torch.randn(1, 4, 5), torch.randn(32, 5), None, plan, head_width=16)
        assert rows.shape == (0, 16)
        assert torch.equal(project_output(rows, torch.randn(5, 32), None, plan), torch.zeros(1, 4, 5))


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_under_autocast_as_a_linear_layer(share: float) -> None:
    """bf16 inside, float32 gradients of float32 weights."""
    torch.manual_seed(0)
    routing = "all" if share == 1 else "uniform"
    plan = build(HeadCase(queries=20, groups=2, heads_per_group=1, width=16, routing=routing)).plan
    hidden, query, output = normal(1, 20, HIDDEN), normal(32, HIDDEN), normal(HIDDEN, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows = project_queries(hidden, query, None, plan, head_width=16)
        out = project_output(rows, output, None, plan)
    assert rows.dtype == out.dtype == torch.bfloat16
    grads = torch.autograd.grad(out.float().sum(), (hidden, query, output))
    assert all(grad.dtype == torch.float32 for grad in grads)
    want = output_by_definition(queries_by_definition(hidden, query, None, plan), output, None, plan, None)
    assert relative_error(out, want) < 0.03
