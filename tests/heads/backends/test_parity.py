"""Every backend gives the output and the four gradients of dense attention with gates, computed in fp64.

The error is the largest absolute one over the largest absolute value; the bound is 1e-5. Two things can put it out of
float32's reach, torch's own dense attention included (4 of 1,500 short cases): a softmax that leaves next to nothing of
a gradient (two keys, one with almost all weight), and a single number in which hundreds of terms cancel (the gate of
one query). Only there, where torch's own error is above half the bound, is the bound twice that error.
A backend that cannot run here is skipped with its own reason.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from head_cases import HeadCase, HeadProblem, build, head_cases, naive_attention, relative_error
from strop.errors import UserError
from strop.heads.attention import load_backend, moh_attention
from strop.heads.backends.reference import gated_attention

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # its kernels are exact, and slow, on a CPU

BOUND = 1e-5
WIDTHS = {"gathered": (16, 64), "native": (64, 128), "triton": (16, 64)}
LONGEST = {"gathered": 517, "native": 517, "triton": 128}
NAMES = ("output", "query", "key", "value", "weight")
QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck))


def skip_where_missing(name: str) -> None:
    """Skip with the backend's own reason."""
    problem = build(HeadCase(queries=5, width=64))
    try:
        reason = load_backend(name).missing(problem.plan.pack(problem.query_bhnd), problem.plan)
    except ImportError as error:
        reason = str(error)
    if reason is not None:
        pytest.skip(reason)


def gradients(problem: HeadProblem, backend: str) -> list[Tensor]:
    """Return the output and the gradients in query, key, value and weight."""
    names = ("query_bhnd", "key_bgtd", "value_bgtd", "weight_bnh")
    leaves = [getattr(problem, name).detach().clone().requires_grad_() for name in names]
    query, key, value, weight = leaves
    if backend == "oracle":
        out = naive_attention(query, key, value, problem.visible)
        out = out * (weight * problem.mask_bnh).permute(0, 2, 1)[..., None]
    elif backend == "reference":
        gate_bnh = weight * problem.mask_bnh
        scale = query.shape[-1] ** -0.5
        out = gated_attention(query, key, value, gate_bnh=gate_bnh, visible=problem.visible, scale=scale)
    else:
        out = moh_attention(query, key, value, weight_bnh=weight, plan=problem.plan, backend=backend)
    found = torch.autograd.grad(out, leaves, problem.cotangent_bhnd)
    return [out.detach(), *found]


def in_double(problem: HeadProblem) -> HeadProblem:
    """The same numbers in fp64."""
    names = ("query_bhnd", "key_bgtd", "value_bgtd", "weight_bnh", "cotangent_bhnd")
    return replace(problem, **{name: getattr(problem, name).double() for name in names})


def check(case: HeadCase, backend: str, oracle: str = "oracle") -> None:
    """Compare a backend with the oracle on one case."""
    problem = build(case)
    try:
        got = gradients(problem, backend)
    except UserError as error:
        assume(error.why is None)
        raise
    want = gradients(in_double(problem), oracle)
    errors = {name: relative_error(g, w) for name, g, w in zip(NAMES, got, want, strict=True)}
    if not all(error <= BOUND for error in errors.values()):
        torchs = [relative_error(g, w) for g, w in zip(gradients(problem, "reference"), want, strict=True)]
        assert all(error <= max(BOUND, 2 * own) for error, own in zip(errors.values(), torchs, strict=True)), (
            case,
            errors,
            torchs,
        )
    assert all(torch.isfinite(g).all() for g in got), case


@settings(QUIET, max_examples=40)
@given(case=head_cases(longest=70))
def test_the_reference_is_the_definition(case: HeadCase) -> None:
    """In fp64."""
    problem = in_double(build(case))
    for got, want in zip(gradients(problem, "reference"), gradients(problem, "oracle"), strict=True):
        assert float((got - want).abs().max()) < 1e-10


@pytest.mark.parametrize("backend", ["gathered", "native"])
@settings(QUIET, max_examples=40)
@given(data=st.data())
def test_short_cases(backend: str, data: st.DataObject) -> None:
    skip_where_missing(backend)
    check(data.draw(head_cases(longest=70, widths=WIDTHS.get(backend, (16, 64)))), backend)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["gathered", "native", "triton"])
def test_many_cases(backend: str) -> None:
    """300 cases up to 517 tokens (128 in Triton's interpreter): odd lengths, skew, padding, 1-8 heads a group."""
    skip_where_missing(backend)
    cases = head_cases(longest=LONGEST.get(backend, 517), widths=WIDTHS.get(backend, (16, 64)))

    @settings(QUIET, max_examples=300)
    @given(case=cases)
    def compare(case: HeadCase) -> None:
        check(case, backend)

    compare()


@pytest.mark.slow
@pytest.mark.parametrize("routing", ["uniform", "skewed", "per_group", "all"])
@pytest.mark.parametrize("backend", ["gathered", "native"])
def test_long_cases(backend: str, routing: str) -> None:
    """8,192 tokens, four query heads a group: sums over 8,192 x 4 rows stay exact."""
    skip_where_missing(backend)
    case = HeadCase(
        queries=8192, groups=1, heads_per_group=4, width=64, chosen=4 if routing == "all" else 2, routing=routing
    )
    check(case, backend, oracle="reference")
