"""The C++ kernels beyond the parity of all backends: both instruction sets, threads, strides, what they refuse.

The error is the largest absolute one over the largest absolute value, against fp64.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from head_cases import HeadCase, HeadProblem, build, naive_attention, relative_error
from strop.errors import UserError
from strop.heads.attention import moh_attention
from strop.heads.backends import native

BOUND = 2e-6
LONG_BOUND = 3e-6
CASES = (
    HeadCase(queries=1, groups=2, heads_per_group=4, chosen=3),
    HeadCase(queries=131, batch=2, groups=2, heads_per_group=2, chosen=2, routing="skewed"),
    HeadCase(queries=190, groups=1, heads_per_group=4, chosen=2, width=128, sight="window", seed=20),
    HeadCase(queries=77, batch=2, groups=3, chosen=2, width=48, sight="left_padding"),
    HeadCase(queries=150, batch=2, groups=2, chosen=1, width=16, sight="packed", routing="ragged"),
    HeadCase(queries=65, groups=1, heads_per_group=8, chosen=4, width=256, sight="everything", seed=100),
)


def gradients(problem: HeadProblem, *, native_backend: bool) -> list[Tensor]:
    """Return output and gradients in query, key and value: ours, or by the definition in fp64."""
    tensors = [problem.query_bhnd, problem.key_bgtd, problem.value_bgtd]
    cotangent = problem.cotangent_bhnd
    if not native_backend:
        tensors, cotangent = [tensor.double() for tensor in tensors], cotangent.double()
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    if native_backend:
        out = moh_attention(leaves[0], leaves[1], leaves[2], plan=problem.plan, backend="native")
    else:
        out = (
            naive_attention(leaves[0], leaves[1], leaves[2], problem.visible)
            * problem.mask_bnh.transpose(1, 2)[..., None]
        )
    return [out.detach(), *torch.autograd.grad(out, leaves, cotangent)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.queries}-{case.width}-{case.sight}")
def test_output_and_gradients(isa: str, case: HeadCase) -> None:
    problem = build(case)
    errors = [
        relative_error(got, want)
        for got, want in zip(
            gradients(problem, native_backend=True), gradients(problem, native_backend=False), strict=True
        )
    ]
    assert max(errors) < BOUND, errors


def test_threads_change_nothing(isa: str) -> None:
    """The sums are formed in one order, whoever forms them: 1, 2 and 3 threads give the same bits."""
    problem = build(HeadCase(queries=2100, groups=1, heads_per_group=2, chosen=1))
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(gradients(problem, native_backend=True))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


def test_keys_in_the_order_of_a_projection(isa: str) -> None:
    """Keys and values may lie token by token, as a projection leaves them; the answer is the same to the bit."""
    problem = build(HeadCase(queries=150, groups=2, heads_per_group=2, chosen=2))
    strided = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (problem.key_bgtd, problem.value_bgtd)]
    assert not strided[0].is_contiguous()
    rows_rd, scale = problem.plan.pack(problem.query_bhnd), 0.125
    want = native.attend(rows_rd, problem.key_bgtd, problem.value_bgtd, plan=problem.plan, scale=scale)
    assert torch.equal(native.attend(rows_rd, strided[0], strided[1], plan=problem.plan, scale=scale), want)


def test_nan_stays_in_its_row(isa: str) -> None:
    problem = build(HeadCase(queries=70, chosen=2))
    rows_rd = problem.plan.pack(problem.query_bhnd)
    rows_rd[3, 5] = float("nan")
    out_rd = native.attend(rows_rd, problem.key_bgtd, problem.value_bgtd, plan=problem.plan, scale=0.125)
    assert out_rd.isnan().any(dim=1).nonzero().tolist() == [[3]]


def test_scores_of_any_size(isa: str) -> None:
    """Scores of some thousands: the softmax is a choice of one key, and no number overflows."""
    problem = build(HeadCase(queries=40))
    loud = problem.query_bhnd * 1000
    out = moh_attention(loud, problem.key_bgtd, problem.value_bgtd, plan=problem.plan, backend="native")
    query, key, value = (x.double() for x in (loud, problem.key_bgtd, problem.value_bgtd))
    want = naive_attention(query, key, value, problem.visible)
    want = want * problem.mask_bnh.transpose(1, 2)[..., None]
    assert relative_error(out, want) < 1e-3  # scores of 1,000 have an error of 1e-4, which becomes one of the shares


@pytest.mark.parametrize(
    ("width", "dtype", "why"),
    [(40, torch.float32, "multiple of 16"), (272, torch.float32, "up to 256"), (64, torch.bfloat16, "bfloat16")],
)
def test_refuses(width: int, dtype: torch.dtype, why: str) -> None:
    problem = build(HeadCase(queries=3, width=width))
    rows_rd = problem.plan.pack(problem.query_bhnd.to(dtype))
    assert why in (native.missing(rows_rd, problem.plan) or "")
    with pytest.raises(UserError, match="cannot run here"):
        moh_attention(rows_rd, problem.key_bgtd, problem.value_bgtd, plan=problem.plan, backend="native")


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [2, 4])
def test_long_sums_stay_exact(isa: str, chosen: int) -> None:
    """8,192 tokens, four query heads a group: up to 32,768 rows are summed into the first key's gradient."""
    case = HeadCase(queries=8192, groups=1, heads_per_group=4, chosen=chosen, routing="per_group")
    problem = build(case)
    got = gradients(problem, native_backend=True)
    leaves = [x.double().requires_grad_() for x in (problem.query_bhnd, problem.key_bgtd, problem.value_bgtd)]
    query, key, value = leaves
    out = scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    out = out * problem.mask_bnh.transpose(1, 2)[..., None]
    want = [out.detach(), *torch.autograd.grad(out, leaves, problem.cotangent_bhnd.double())]
    errors = [relative_error(one, two) for one, two in zip(got, want, strict=True)]
    assert max(errors) < LONG_BOUND, errors


def test_refuses_tensors_of_other_shapes(isa: str) -> None:
    """The kernels would read what is not there: fewer keys than the rows see, or values of another width."""
    problem = build(HeadCase(queries=9))
    rows_rd, key, value = problem.plan.pack(problem.query_bhnd), problem.key_bgtd, problem.value_bgtd
    for bad_key, bad_value in [(key[:, :, :8], value[:, :, :8]), (key, value[..., :48]), (key[:, :1], value[:, :1])]:
        with pytest.raises(UserError, match="does not fit"):
            native.attend(rows_rd, bad_key, bad_value, plan=problem.plan, scale=0.125)
    with pytest.raises(UserError, match="the shape of query_rd"):
        native.attend(rows_rd[1:], key, value, plan=problem.plan, scale=0.125)


def test_a_cache_longer_than_what_is_seen(isa: str) -> None:
    problem = build(HeadCase(queries=9))
    rows_rd = problem.plan.pack(problem.query_bhnd)
    want = native.attend(rows_rd, problem.key_bgtd, problem.value_bgtd, plan=problem.plan, scale=0.125)
    room = torch.full((1, 2, 7, 64), float("nan"))
    longer = [torch.cat([x, room], dim=2) for x in (problem.key_bgtd, problem.value_bgtd)]
    assert torch.equal(native.attend(rows_rd, longer[0], longer[1], plan=problem.plan, scale=0.125), want)
