"""Every backend gives the output and the four gradients of dense attention with gates, computed in fp64.

The error is the largest absolute one over the largest absolute value; the bound is 1e-5, also where a softmax leaves
next to nothing of a gradient (one key with almost all weight): torch's own float32 attention fails. One thing no
float32 output can give: a gate's gradient is the product of the output and its gradient, and where the terms of the
only large ones cancel (one query with one head), the output's own rounding is more than 1e-5 of what is left. There,
and for gates alone, an error of two roundings of the terms is allowed.

A backend that cannot run here is skipped with its own reason.
"""

from __future__ import annotations

import os
from dataclasses import replace
from math import log

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


def rounding_of_gates(problem: HeadProblem, gradient_bnh: Tensor) -> float:
    """Return one rounding of all terms of a gate's gradient, of the largest gate, over the largest gradient.

    Terms 1, 2 and -2.999 leave 0.001; one rounding of each is 2^-23 x 5.999, which is 7e-4 of it.
    """
    out_bhnd = naive_attention(problem.query_bhnd, problem.key_bgtd, problem.value_bgtd, problem.visible)
    size_bhn = (out_bhnd * problem.cotangent_bhnd).abs().sum(-1) * problem.mask_bnh.permute(0, 2, 1)
    return float(torch.finfo(torch.float32).eps * size_bhn.max() / gradient_bnh.abs().max())


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
    bounds = dict.fromkeys(NAMES, BOUND)
    if errors["weight"] > BOUND:
        bounds["weight"] = max(BOUND, 2 * rounding_of_gates(in_double(problem), want[-1]))
    assert all(errors[name] <= bounds[name] for name in NAMES), (case, errors, bounds)
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


@pytest.mark.parametrize("backend", ["gathered", "native", "triton"])
@pytest.mark.parametrize("rest", [1e-2, 1e-4, 1e-6])
def test_a_share_next_to_one(backend: str, rest: float) -> None:
    """One query, two keys, shares 1 - p and p: dS = (1 - p) p (dP0 - dP1) and its opposite, of which p is known well.

    As share * (dP - dO . O) the first would be a difference of two numbers that agree but for the part p, and lose as
    many digits.
    """
    skip_where_missing(backend)
    problem = build(HeadCase(queries=1, groups=1, width=64, sight="cached", seed=1, routing="all"))
    assert problem.visible.keys == 2
    key_bgtd = problem.key_bgtd.clone()
    query_d = problem.query_bhnd[0, 0, 0]
    apart = (key_bgtd[0, 0, 0] - key_bgtd[0, 0, 1]) @ query_d
    key_bgtd[0, 0, 0] += query_d * (-8 * log(rest) - apart) / (query_d @ query_d)
    problem = replace(problem, key_bgtd=key_bgtd)
    want = gradients(in_double(problem), "oracle")
    errors = {name: relative_error(g, w) for name, g, w in zip(NAMES, gradients(problem, backend), want, strict=True)}
    assert max(errors.values()) <= BOUND, errors


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
