"""One new token behind a cache: what the reference gives, and no byte of an unchosen group's keys."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from head_cases import HeadCase, HeadProblem, build, naive_attention, relative_error
from strop.errors import UserError
from strop.heads.attention import load_backend, using
from strop.heads.decoding import moh_decode
from strop.heads.visibility import padded

BACKENDS = ("reference", "gathered", "native", "auto")


def one_token(batch: int = 2, keys: int = 50, groups: int = 2, members: int = 4, *, routing: str) -> HeadProblem:
    """A token behind ``keys - 1`` cached ones, with heads chosen as `routing` says."""
    case = HeadCase(queries=1, batch=batch, groups=groups, heads_per_group=members, chosen=2, routing=routing)
    key, value = (torch.randn(batch, groups, keys, 64) for _ in range(2))
    visible = padded(torch.ones(batch, keys, dtype=torch.bool), queries=1)
    return replace(build(case), key_bgtd=key, value_bgtd=value, visible=visible)


def by_definition(problem: HeadProblem) -> Tensor:
    query, key, value = (x.double() for x in (problem.query_bhnd, problem.key_bgtd, problem.value_bgtd))
    out = naive_attention(query, key, value, problem.visible)
    return out * (problem.weight_bnh * problem.mask_bnh).permute(0, 2, 1)[..., None]


def skip_where_missing(backend: str) -> None:
    problem = one_token(routing="all")
    if backend == "native" and load_backend(backend).missing(problem.query_bhnd[0, :, 0], problem.plan) is not None:
        pytest.skip("no native kernels here")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("routing", ["uniform", "skewed", "per_group", "groups", "all"])
def test_equals_the_definition(backend: str, routing: str) -> None:
    torch.manual_seed(1)
    skip_where_missing(backend)
    problem = one_token(routing=routing)
    out = moh_decode(
        problem.query_bhnd,
        problem.key_bgtd,
        problem.value_bgtd,
        head_mask_bnh=problem.mask_bnh,
        gate_bnh=problem.weight_bnh,
        backend=backend,
    )
    assert relative_error(out, by_definition(problem)) < 1e-5


@pytest.mark.parametrize("backend", ["gathered", "native"])
def test_reads_nothing_of_unchosen_groups_and_of_the_rest_of_a_static_cache(backend: str) -> None:
    """All that may not be read is NaN: group 0 of row 0, group 1 of row 1, and places 30 to 49 of a cache of 50."""
    skip_where_missing(backend)
    problem = one_token(routing="all")
    group_mask_bng = torch.tensor([[[False, True]], [[True, False]]])
    for cache in (problem.key_bgtd, problem.value_bgtd):
        cache[0, 0] = cache[1, 1] = cache[:, :, 30:] = float("nan")
    visible = replace(problem.visible, last_bn=torch.full((2, 1), 29, dtype=torch.int32))
    out = moh_decode(
        problem.query_bhnd,
        problem.key_bgtd,
        problem.value_bgtd,
        group_mask_bng=group_mask_bng,
        visible=visible,
        backend=backend,
    )
    used_bgt = group_mask_bng.permute(0, 2, 1) & (torch.arange(50) < 30)
    key, value = (x.masked_fill(~used_bgt[..., None], 0.0) for x in (problem.key_bgtd, problem.value_bgtd))
    mask_bnh = group_mask_bng.repeat_interleave(4, dim=-1)
    clean = replace(problem, key_bgtd=key, value_bgtd=value, visible=visible, mask_bnh=mask_bnh)
    clean = replace(clean, weight_bnh=torch.ones(2, 1, 8))
    assert relative_error(out, by_definition(clean)) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_left_padding_and_a_row_that_sees_nothing(backend: str) -> None:
    torch.manual_seed(2)
    skip_where_missing(backend)
    problem = one_token(routing="uniform")
    real_bt = torch.arange(50) >= torch.tensor([[7], [50]])
    problem = replace(problem, visible=padded(real_bt, queries=1), weight_bnh=torch.ones(2, 1, 8))
    out = moh_decode(
        problem.query_bhnd,
        problem.key_bgtd,
        problem.value_bgtd,
        head_mask_bnh=problem.mask_bnh,
        visible=problem.visible,
        backend=backend,
    )
    assert torch.equal(out[1], torch.zeros(8, 1, 64))
    assert relative_error(out, by_definition(problem)) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_pass_through(backend: str) -> None:
    skip_where_missing(backend)
    problem = one_token(routing="uniform")
    leaves = [x.requires_grad_() for x in (problem.query_bhnd, problem.key_bgtd, problem.value_bgtd)]
    out = moh_decode(*leaves, head_mask_bnh=problem.mask_bnh, gate_bnh=problem.weight_bnh, backend=backend)
    want = by_definition(problem)
    for got, right in zip(torch.autograd.grad(out.sum(), leaves), torch.autograd.grad(want.sum(), leaves), strict=True):
        assert relative_error(got, right) < 1e-5


def test_what_cannot_be_decoded_is_refused() -> None:
    problem = one_token(routing="all")
    key, value = problem.key_bgtd, problem.value_bgtd
    with pytest.raises(UserError, match="one new token: got 3"):
        moh_decode(torch.randn(2, 8, 3, 64), key, value)
    groups = torch.ones(2, 1, 2, dtype=torch.bool)
    with pytest.raises(UserError, match="in one way only"):
        moh_decode(problem.query_bhnd, key, value, head_mask_bnh=problem.mask_bnh, group_mask_bng=groups)


def test_the_context_decides_over_the_call() -> None:
    """The reference reads everything, so NaN in an unchosen group shows."""
    problem = one_token(routing="all")
    problem.value_bgtd[:, 0] = float("nan")
    mask = torch.tensor([False, True]).expand(2, 1, 2)
    arguments = (problem.query_bhnd, problem.key_bgtd, problem.value_bgtd)
    assert moh_decode(*arguments, group_mask_bng=mask, backend="gathered").isfinite().all()
    with using("reference"):
        assert moh_decode(*arguments, group_mask_bng=mask, backend="gathered").isnan().any()
