"""Decoding by the C++ kernels, against the definition in fp64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from head_cases import HeadCase, HeadProblem, build, naive_attention, relative_error
from strop.errors import UserError
from strop.heads import visibility
from strop.heads.backends import native

BOUND = 2e-6
CASES = (
    HeadCase(queries=2100, batch=2, groups=2, heads_per_group=4, chosen=3),
    HeadCase(queries=130, batch=3, groups=2, heads_per_group=2, chosen=1, routing="groups", width=128),
    HeadCase(queries=1, groups=3, chosen=2, width=48),
    HeadCase(queries=77, batch=2, groups=1, heads_per_group=8, chosen=5, width=16, routing="ragged"),
)


def last_token(case: HeadCase) -> HeadProblem:
    """Let the case's last token decode: its keys are those of all tokens, and every row but the first is padded."""
    problem = build(case)
    real_bt = torch.ones(case.batch, case.queries, dtype=torch.bool)
    for row in range(1, case.batch):
        real_bt[row, : case.queries // (row + 2)] = False
    return replace(
        problem,
        query_bhnd=problem.query_bhnd[:, :, -1:],
        mask_bnh=problem.mask_bnh[:, -1:],
        weight_bnh=problem.weight_bnh[:, -1:],
        visible=visibility.padded(real_bt, queries=1),
    )


def decode(problem: HeadProblem, *, gate_bnh: Tensor | None = None) -> Tensor:
    return native.decode(
        problem.query_bhnd,
        problem.key_bgtd,
        problem.value_bgtd,
        head_mask_bnh=problem.mask_bnh,
        gate_bnh=gate_bnh,
        visible=problem.visible,
        scale=problem.query_bhnd.shape[-1] ** -0.5,
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.queries}-{case.width}-{case.routing}")
def test_decode(isa: str, case: HeadCase) -> None:
    problem = last_token(case)
    query, key, value = (x.double() for x in (problem.query_bhnd, problem.key_bgtd, problem.value_bgtd))
    want = naive_attention(query, key, value, problem.visible) * problem.mask_bnh.transpose(1, 2)[..., None]
    assert relative_error(decode(problem), want) < BOUND
    gated = want * problem.weight_bnh.transpose(1, 2)[..., None]
    assert relative_error(decode(problem, gate_bnh=problem.weight_bnh), gated) < BOUND


def test_decode_reads_views_and_any_number_of_threads(isa: str) -> None:
    """A static cache is longer than what is in it, and its tokens may lie outside its heads."""
    problem = last_token(CASES[0])
    want = decode(problem)
    room = torch.full((2, 2500, 2, 64), float("nan"))
    key, value = room.clone().transpose(1, 2), room.clone().transpose(1, 2)
    key[:, :, :2100], value[:, :, :2100] = problem.key_bgtd, problem.value_bgtd
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(decode(replace(problem, key_bgtd=key, value_bgtd=value)), want)
    finally:
        torch.set_num_threads(before)


def test_decode_reads_chosen_groups_only(isa: str) -> None:
    """NaN in the keys of a group that nobody chose harms nobody; a row that sees nothing gets zero."""
    problem = last_token(HeadCase(queries=30, batch=2, groups=2, heads_per_group=2))
    mask_bnh = torch.tensor([True, True, False, False]).expand(2, 1, 4)
    problem.key_bgtd[:, 1] = float("nan")
    visible = visibility.Visible(torch.zeros(2, 1).int(), torch.tensor([[29], [-1]]).int(), 30)
    out = decode(replace(problem, mask_bnh=mask_bnh, visible=visible))
    assert out.isfinite().all()
    assert out[0, :2].abs().min() > 0
    assert out[0, 2:].abs().max() == out[1].abs().max() == 0


def test_decode_takes_one_token(isa: str) -> None:
    with pytest.raises(UserError, match="one new token"):
        decode(build(HeadCase(queries=3)))
