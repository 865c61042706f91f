"""The plan's rows: by batch row, KV head, query and head; packing and scattering are each other's inverse."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings

from head_cases import HeadCase, build, head_cases
from strop.errors import UserError
from strop.heads import plan as plan_module
from strop.heads.plan import routing_plan
from strop.heads.visibility import causal

MASK = torch.tensor([[[1, 0, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0]]]).bool()


def test_rows_by_hand() -> None:
    """One row, 3 queries, 4 heads in 2 groups: token 0 takes heads 0 and 3, token 1 heads 0 and 1, token 2 none.

    Group 0: (0, head 0), (1, head 0), (1, head 1); group 1: (0, head 3).
    """
    plan = routing_plan(MASK, groups=2, visible=causal(1, 3))
    assert plan.token_r.tolist() == [0, 1, 1, 0]
    assert plan.head_r.tolist() == [0, 0, 1, 3]
    assert plan.offset_s.tolist() == [0, 3, 4]
    assert plan.first_r.tolist() == [0, 0, 0, 0]
    assert plan.last_r.tolist() == [0, 1, 1, 0]
    assert plan.place_r.tolist() == [0, 1, 4, 9]
    order_r, counts = plan.by_head
    assert order_r.tolist() == [0, 1, 2, 3]
    assert counts == [2, 1, 0, 1]


@settings(deadline=None)
@given(case=head_cases(longest=40))
def test_rows_are_sorted_and_those_of_the_mask(case: HeadCase) -> None:
    problem = build(case)
    plan = problem.plan
    n, m = case.queries, case.heads_per_group
    keys = [
        (int(token) // n, int(head) // m, int(token) % n, int(head) % m)
        for token, head in zip(plan.token_r, plan.head_r, strict=True)
    ]
    assert keys == sorted(keys)
    assert plan.rows == int(problem.mask_bnh.sum())
    rebuilt = torch.zeros_like(problem.mask_bnh).view(-1, plan.heads)
    rebuilt[plan.token_r, plan.head_r] = True
    assert torch.equal(rebuilt.view_as(problem.mask_bnh), problem.mask_bnh)
    for segment in range(case.batch * case.groups):
        rows = keys[int(plan.offset_s[segment]) : int(plan.offset_s[segment + 1])]
        assert all(row * case.groups + group == segment for row, group, _, _ in rows)
    order_r, counts = plan.by_head
    by_head = [(int(plan.head_r[row]), int(plan.token_r[row])) for row in order_r]
    assert by_head == sorted(by_head)
    assert counts == [int((plan.head_r == head).sum()) for head in range(plan.heads)]


@settings(deadline=None)
@given(case=head_cases(longest=40))
def test_packing_and_scattering(case: HeadCase) -> None:
    problem = build(case)
    plan, chosen = problem.plan, problem.mask_bnh.permute(0, 2, 1)[..., None]
    rows_rd = plan.pack(problem.query_bhnd)
    assert torch.equal(plan.unpack(rows_rd), problem.query_bhnd * chosen)
    assert torch.equal(plan.pack(plan.unpack(rows_rd)), rows_rd)
    gate_bhn1 = problem.weight_bnh.permute(0, 2, 1)[..., None]
    assert torch.equal(plan.pack_gate(problem.weight_bnh), plan.pack(gate_bhn1)[:, 0])


def test_scattering_has_the_gradient_of_gathering() -> None:
    plan = routing_plan(MASK, groups=2, visible=causal(1, 3))
    rows = torch.randn(4, 5, requires_grad=True)
    cotangent = torch.randn(1, 4, 3, 5)
    (grad,) = torch.autograd.grad(plan.unpack(rows), rows, cotangent)
    assert torch.equal(grad, plan.pack(cotangent))


def test_a_layout_that_fixes_the_rows() -> None:
    problem = build(HeadCase(queries=6, groups=2, heads_per_group=4, chosen=2, routing="per_group"))
    free = routing_plan(problem.mask_bnh, groups=2, visible=problem.visible)
    fixed = problem.plan
    assert fixed.uniform == 2
    assert fixed.offset_s.tolist() == free.offset_s.tolist() == [0, 12, 24]
    with pytest.raises(UserError, match="not as many as the layout says: got '24 pairs for 6 tokens of 6 heads'"):
        routing_plan(problem.mask_bnh, groups=2, visible=problem.visible, rows_per_group=3)
    with pytest.raises(UserError, match="not as many"):
        routing_plan(problem.mask_bnh, groups=2, visible=problem.visible, heads_per_token=5)


def test_numbers_looked_up_and_computed_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = build(HeadCase(queries=37, batch=3, groups=3, heads_per_group=3, routing="ragged"))
    looked_up = problem.plan
    monkeypatch.setattr(plan_module, "CACHED_PAIRS", 0)
    computed = problem.plan
    assert torch.equal(looked_up.token_r, computed.token_r)
    assert torch.equal(looked_up.head_r, computed.head_r)


def test_a_plan_made_in_inference_does_not_spoil_training() -> None:
    """The cached numbering is no inference tensor, whoever made it first."""
    plan_module._all_pairs.cache_clear()
    with torch.inference_mode():
        routing_plan(MASK, groups=2, visible=causal(1, 3))
    plan = routing_plan(MASK, groups=2, visible=causal(1, 3))
    query = torch.randn(1, 4, 3, 5, requires_grad=True)
    (grad,) = torch.autograd.grad(plan.unpack(plan.pack(query)).sum(), query)
    assert torch.equal(grad.sum((2, 3)) > 0, MASK.any(1))


def test_no_tokens_and_no_heads() -> None:
    for mask in (torch.zeros(1, 0, 4), torch.zeros(2, 3, 4)):
        plan = routing_plan(mask.bool(), groups=2, visible=causal(mask.shape[0], mask.shape[1]))
        assert plan.rows == 0
        assert set(plan.offset_s.tolist()) == {0}
        assert not plan.unpack(torch.zeros(0, 7)).any()
    assert replace(plan).by_head[1] == [0, 0, 0, 0]
