"""Projections of chosen pairs by the C++ kernels: outputs and all gradients against dense projections in fp64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from head_cases import HeadCase, HeadProblem, build, relative_error
from strop.errors import UserError
from strop.heads.backends import native

BOUND = 2e-6
pytestmark = pytest.mark.usefixtures("isa")

CASES = (
    (HeadCase(queries=1, groups=1, heads_per_group=4, chosen=2), 64),
    (HeadCase(queries=150, batch=2, groups=2, heads_per_group=2, chosen=2, routing="skewed"), 256),
    (HeadCase(queries=301, groups=3, chosen=2, width=48, routing="ragged"), 72),
    (HeadCase(queries=70, batch=3, groups=2, heads_per_group=4, chosen=4, width=128), 1100),
    (HeadCase(queries=90, groups=2, heads_per_group=2, chosen=4, width=16), 30),
)


def normal(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(len(shape) + sum(shape))
    return torch.randn(*shape, generator=generator)


def check(ours: list[Tensor], theirs: list[Tensor]) -> None:
    """Compare outputs and gradients."""
    errors = [relative_error(got, want) for got, want in zip(ours, theirs, strict=True)]
    assert max(errors) < BOUND, errors


def query_passes(problem: HeadProblem, tensors: list[Tensor], *, dense: bool) -> list[Tensor]:
    """Output rows and gradients in hidden states, weight and bias."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    hidden, weight, bias = leaves
    plan, heads = problem.plan, problem.mask_bnh.shape[-1]
    width = weight.shape[0] // heads
    if dense:
        wide_bnq = linear(hidden, weight, bias)
        rows = plan.pack(wide_bnq.view(*wide_bnq.shape[:2], heads, width).transpose(1, 2))
    else:
        rows = native.project_queries(hidden, weight, bias, plan, head_width=width)
    cotangent = normal(*rows.shape).to(rows.dtype)
    return [rows.detach(), *torch.autograd.grad(rows, leaves, cotangent)]


def output_passes(problem: HeadProblem, tensors: list[Tensor], *, dense: bool) -> list[Tensor]:
    """Output tokens and gradients in rows, weight, bias and gates."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    rows, weight, bias, gate = leaves
    plan = problem.plan
    if dense:
        wide_bhnd = plan.unpack(rows) * gate.transpose(1, 2)[..., None]
        out = linear(wide_bhnd.transpose(1, 2).flatten(2), weight, bias)
    else:
        out = native.project_output(rows, weight, bias, plan, gate_bnh=gate)
    cotangent = normal(*out.shape).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, leaves, cotangent)]


@pytest.mark.parametrize(("case", "model"), CASES)
def test_queries(case: HeadCase, model: int) -> None:
    problem = build(case)
    wide = case.groups * case.heads_per_group * case.width
    tensors = [normal(case.batch, case.queries, model), normal(wide, model), normal(wide)]
    double = [tensor.double() for tensor in tensors]
    check(query_passes(problem, tensors, dense=False), query_passes(problem, double, dense=True))


@pytest.mark.parametrize(("case", "model"), CASES)
def test_output(case: HeadCase, model: int) -> None:
    problem = build(case)
    wide = case.groups * case.heads_per_group * case.width
    rows = normal(problem.plan.rows, case.width)
    tensors = [rows, normal(model, wide), normal(model), problem.weight_bnh]
    double = [tensor.double() for tensor in tensors]
    check(output_passes(problem, tensors, dense=False), output_passes(problem, double, dense=True))


def test_without_bias_and_gates() -> None:
    """Tokens without a head get zero; nothing else changes."""
    problem = build(HeadCase(queries=40, groups=2, heads_per_group=2, routing="ragged"))
    rows, weight = normal(problem.plan.rows, 64), normal(96, 256)
    out = native.project_output(rows, weight, None, problem.plan)
    want = linear(problem.plan.unpack(rows.double()).transpose(1, 2).flatten(2), weight.double())
    assert relative_error(out, want) < BOUND
    assert out[~problem.mask_bnh.any(-1)].abs().max() == 0
    hidden = normal(1, 40, 96)
    wide = linear(hidden.double(), weight.T.double()).view(1, 40, 4, 64).transpose(1, 2)
    queries = native.project_queries(hidden, weight.T, None, problem.plan, head_width=64)
    assert relative_error(queries, problem.plan.pack(wide)) < BOUND


def test_threads_change_nothing() -> None:
    problem = build(HeadCase(queries=700, groups=2, heads_per_group=2, chosen=2))
    tensors = [normal(problem.plan.rows, 64), normal(96, 256), normal(96), problem.weight_bnh]
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(output_passes(problem, tensors, dense=False))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


def test_refuses_other_types() -> None:
    problem = build(HeadCase(queries=3))
    with pytest.raises(UserError, match="cannot run here"):
        native.project_queries(normal(1, 3, 8).bfloat16(), normal(128, 8), None, problem.plan, head_width=64)
