"""`moh_attention`: ways to say which heads, contexts that name the backend, invariances, and what is refused."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor

from head_cases import HeadCase, HeadProblem, build, naive_attention, relative_error
from strop.errors import UserError
from strop.heads import attention
from strop.heads.attention import backend_now, moh_attention, using
from strop.heads.visibility import causal, padded

BACKENDS = ("reference", "gathered", "auto")


def tensors(problem: HeadProblem) -> tuple[Tensor, Tensor, Tensor]:
    return problem.query_bhnd, problem.key_bgtd, problem.value_bgtd


def by_definition(problem: HeadProblem, *, weighted: bool) -> Tensor:
    gate_bnh = problem.mask_bnh * (problem.weight_bnh if weighted else 1.0)
    return naive_attention(*tensors(problem), problem.visible) * gate_bnh.permute(0, 2, 1)[..., None]


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_way_to_name_the_heads(backend: str, weighted: bool) -> None:
    problem = build(HeadCase(queries=29, batch=2, groups=2, heads_per_group=2, chosen=3))
    want = by_definition(problem, weighted=weighted)
    weight = problem.weight_bnh if weighted else None
    index = problem.mask_bnh.nonzero()[:, 2].view(2, 29, 3)
    for choice in ({"index_bnk": index}, {"head_mask_bnh": problem.mask_bnh}, {"plan": problem.plan}):
        out = moh_attention(*tensors(problem), **choice, weight_bnh=weight, backend=backend)
        assert relative_error(out, want) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_packed_rows(backend: str) -> None:
    problem = build(HeadCase(queries=29, batch=2, groups=2, heads_per_group=2, chosen=3, sight="left_padding"))
    plan, (query, key, value) = problem.plan, tensors(problem)
    out = moh_attention(plan.pack(query), key, value, plan=plan, weight_bnh=problem.weight_bnh, backend=backend)
    assert relative_error(out, plan.pack(by_definition(problem, weighted=True))) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_choice_is_dense_attention(backend: str) -> None:
    problem = build(HeadCase(queries=29, batch=2, groups=2, heads_per_group=2, routing="all"))
    out = moh_attention(*tensors(problem), backend=backend)
    assert relative_error(out, by_definition(problem, weighted=False)) < 1e-5


@pytest.mark.parametrize("backend", ["gathered", "auto"])
def test_rows_prefixes_and_order_change_nothing(backend: str) -> None:
    """A batch row alone, the first 17 tokens alone, the rows in another order: the same output for each token."""
    problem = build(HeadCase(queries=40, batch=3, groups=2, heads_per_group=2, chosen=2))

    def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        return moh_attention(query, key, value, head_mask_bnh=mask, backend=backend)

    query, key, value = tensors(problem)
    mask = problem.mask_bnh
    out = attend(query, key, value, mask)
    assert relative_error(attend(query[1:2], key[1:2], value[1:2], mask[1:2]), out[1:2]) < 1e-5
    prefix = attend(query[:, :, :17], key[:, :, :17], value[:, :, :17], mask[:, :17])
    assert relative_error(prefix, out[:, :, :17]) < 1e-5
    order = torch.tensor([2, 0, 1])
    assert relative_error(attend(query[order], key[order], value[order], mask[order]), out[order]) < 1e-5


@pytest.mark.parametrize("step", [1, 3, 40])
def test_chunks_behind_a_cache(step: int) -> None:
    problem = build(HeadCase(queries=40, batch=2, groups=2, heads_per_group=2, chosen=2))
    query, key, value = tensors(problem)
    whole = moh_attention(query, key, value, head_mask_bnh=problem.mask_bnh, backend="gathered")
    parts = []
    for start in range(0, 40, step):
        stop = min(start + step, 40)
        part = moh_attention(
            query[:, :, start:stop],
            key[:, :, :stop],
            value[:, :, :stop],
            head_mask_bnh=problem.mask_bnh[:, start:stop],
            backend="gathered",
        )
        parts.append(part)
    assert relative_error(torch.cat(parts, dim=2), whole) < 1e-5


def test_a_static_cache_is_not_read_behind_its_last_key() -> None:
    """Ten places are allocated, six are filled, the last three of these are queries; the rest is NaN."""
    problem = build(HeadCase(queries=3, groups=1, heads_per_group=2, routing="all"))
    key, value = torch.randn(1, 1, 10, 64), torch.randn(1, 1, 10, 64)
    want = moh_attention(problem.query_bhnd, key[:, :, :6], value[:, :, :6], backend="reference")
    key[:, :, 6:] = value[:, :, 6:] = float("nan")
    filled = causal(1, 3, 6)
    visible = type(filled)(filled.first_bn, filled.last_bn, 10)
    out = moh_attention(problem.query_bhnd, key, value, visible=visible, backend="gathered")
    assert relative_error(out, want) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_padding_gives_zeros_and_no_gradient(backend: str) -> None:
    """Padding tokens choose heads too."""
    problem = build(HeadCase(queries=12, batch=2, groups=2, heads_per_group=2, chosen=2))
    visible = padded(torch.arange(12) >= torch.tensor([[4], [12]]))
    query, key, value = (x.requires_grad_() for x in tensors(problem))
    out = moh_attention(query, key, value, head_mask_bnh=problem.mask_bnh, visible=visible, backend=backend)
    assert torch.equal(out[0, :, :4], torch.zeros_like(out[0, :, :4]))
    assert torch.equal(out[1], torch.zeros_like(out[1]))
    grads = torch.autograd.grad(out.sum(), (query, key, value))
    assert all(torch.isfinite(grad).all() for grad in grads)
    assert all(not grad[1].any() and not grad[0, :, :4].any() for grad in grads)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_within_its_own_rounding(dtype: torch.dtype) -> None:
    problem = build(HeadCase(queries=150, groups=2, heads_per_group=2, chosen=2))
    want = by_definition(problem, weighted=True)
    query, key, value = (x.to(dtype).requires_grad_() for x in tensors(problem))
    out = moh_attention(query, key, value, plan=problem.plan, weight_bnh=problem.weight_bnh, backend="gathered")
    assert out.dtype == dtype
    assert relative_error(out, want) < (0.02 if dtype == torch.bfloat16 else 0.004)
    assert all(torch.isfinite(grad).all() for grad in torch.autograd.grad(out.float().sum(), (query, key, value)))


def test_gates_that_were_not_chosen_are_not_read() -> None:
    problem = build(HeadCase(queries=9, groups=2, heads_per_group=2, chosen=2))
    weight = torch.where(problem.mask_bnh, problem.weight_bnh, float("nan"))
    for backend in BACKENDS:
        out = moh_attention(*tensors(problem), head_mask_bnh=problem.mask_bnh, weight_bnh=weight, backend=backend)
        assert torch.isfinite(out).all()


def test_contexts_nest_and_belong_to_their_thread() -> None:
    seen: dict[str, str] = {}
    assert backend_now("gathered") == "gathered"
    with using("reference"):
        assert backend_now("gathered") == "reference"
        with using("auto"):
            assert backend_now("gathered") == "auto"
        thread = threading.Thread(target=lambda: seen.update(other=backend_now("gathered")))
        thread.start()
        thread.join()
        with pytest.raises(ValueError, match="inside"), using("gathered"):
            raise ValueError("inside")
        assert backend_now("gathered") == "reference"
    assert seen == {"other": "gathered"}
    assert backend_now("gathered") == "gathered"


def test_a_context_decides_over_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr(attention, "load_backend", never)
    problem = build(HeadCase(queries=9))
    with using("reference"):
        moh_attention(*tensors(problem), plan=problem.plan, backend="gathered")


def test_what_is_refused() -> None:
    problem = build(HeadCase(queries=9))
    query, key, value = tensors(problem)
    with pytest.raises(UserError, match="packed rows need their plan"):
        moh_attention(torch.randn(9, 64), key, value)
    with pytest.raises(UserError, match="in one way only"):
        moh_attention(query, key, value, plan=problem.plan, head_mask_bnh=problem.mask_bnh)
    for name in ("", "nativ", "dense"):
        with pytest.raises(UserError, match="no such attention backend"):
            moh_attention(query, key, value, backend=name)
        with pytest.raises(UserError, match="no such attention backend"), using(name):
            pass
    with pytest.raises(UserError, match=r"cannot run here: got 'native'\n  why: .*float64"):
        moh_attention(*(x.double() for x in (query, key, value)), plan=problem.plan, backend="native")
