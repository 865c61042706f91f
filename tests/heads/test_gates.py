"""Gates, choices and scores against numbers worked by hand, and their properties."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from strop.errors import UserError
from strop.heads.gates import (
    Style,
    norm_score,
    refuse_bad_scores,
    straight_through,
    top_k,
    two_stage_gates,
)

TYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def one_token(values: Sequence[float], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(values, dtype=dtype)[None, None]


def logs(*values: float) -> Tensor:
    return one_token(values, torch.float64).log()


def gates(style: Style, picked: Sequence[bool]) -> list[float]:
    shared, routed = two_stage_gates(
        logs(0.75, 0.25), logs(0.5, 0.3, 0.2), one_token([0.0, 0.0]), torch.tensor(picked)[None, None], style=style
    )
    assert shared is not None
    assert routed is not None
    return [*shared.flatten().tolist(), *routed.flatten().tolist()]


def test_the_papers_gates() -> None:
    """A = (.5, .5): .5 x (.75, .25) and .5 x (.5, .3), not renormalised; sum .9."""
    assert gates("paper", [True, True, False]) == pytest.approx([0.375, 0.125, 0.25, 0.15, 0.0])


def test_the_released_gates() -> None:
    """2 x .5 x 2 x (.75, .25) and 2 x .5 x 2 x (.5, .3) / .8; sum 4 = 2 shared + 2 picked."""
    assert gates("released", [True, True, False]) == pytest.approx([1.5, 0.5, 1.25, 0.75, 0.0])


def test_an_untrained_router_gives_every_active_head_1() -> None:
    picked = torch.tensor([True, False, True])[None, None]
    shared, routed = two_stage_gates(
        one_token([0.0] * 2), one_token([0.0] * 3), one_token([0.0] * 2), picked, style="released"
    )
    assert shared is not None
    assert routed is not None
    assert (shared.tolist(), routed.tolist()) == ([[[1.0, 1.0]]], [[[1.0, 0.0, 1.0]]])


@given(st.lists(st.floats(-30, 30), min_size=7, max_size=7), st.integers(1, 4))
def test_routed_gates_sum_to_twice_a2_k(logits: list[float], k: int) -> None:
    """Released gates: 2 a2 k over the picked, 2 a1 s over the shared, whatever the scores; all finite."""
    shared_bns, routed_bne, stage_bn2 = one_token(logits[:1] * 2), one_token(logits[1:5]), one_token(logits[5:])
    shared, routed = two_stage_gates(shared_bns, routed_bne, stage_bn2, top_k(routed_bne, k), style="released")
    stage = stage_bn2.softmax(-1).flatten()
    assert shared is not None
    assert routed is not None
    assert shared.sum().item() == pytest.approx(2 * stage[0].item() * 2, rel=1e-5)
    assert routed.sum().item() == pytest.approx(2 * stage[1].item() * k, rel=1e-5, abs=1e-12)


def test_nothing_shared_has_one_stage() -> None:
    """h_s = 0: r alone, 2 x (.5, .3) / .8 (released) or .5 .3 (paper)."""
    picked = torch.tensor([True, True, False])[None, None]
    released = two_stage_gates(None, logs(0.5, 0.3, 0.2), None, picked, style="released")
    paper = two_stage_gates(None, logs(0.5, 0.3, 0.2), None, picked, style="paper")
    assert (released[0], paper[0]) == (None, None)
    assert released[1] is not None
    assert paper[1] is not None
    assert released[1].flatten().tolist() == pytest.approx([1.25, 0.75, 0.0])
    assert paper[1].flatten().tolist() == pytest.approx([0.5, 0.3, 0.0])


def test_one_shared_head_takes_its_whole_stage() -> None:
    """h_s = 1: s = 1, so 2 x .75 (released) or .75 (paper)."""
    picked = torch.tensor([True, False])[None, None]
    for style, wanted in (("released", 1.5), ("paper", 0.75)):
        shared, _ = two_stage_gates(None, logs(0.5, 0.5), logs(0.75, 0.25), picked, style=style)  # type: ignore[arg-type]
        assert shared is not None
        assert shared.flatten().tolist() == pytest.approx([wanted])


def test_all_shared_is_weighted_full_attention() -> None:
    """K = 0: softmax(W_s x) times all four heads; no stage."""
    shared, routed = two_stage_gates(logs(0.4, 0.3, 0.2, 0.1), None, None, None, style="released")
    assert routed is None
    assert shared is not None
    assert shared.flatten().tolist() == pytest.approx([1.6, 1.2, 0.8, 0.4])


def test_several_choices_are_weighted_each_for_itself() -> None:
    """Two groups, one picked of two each, equal stages: 2 x .5 x 1 in each group."""
    routed_bnce = torch.tensor([[0.9, 0.1], [0.2, 0.8]]).log()[None, None]
    picked = top_k(routed_bnce, 1)
    _, routed = two_stage_gates(None, routed_bnce, one_token([0.0, 0.0]), picked, style="released")
    _, paper = two_stage_gates(None, routed_bnce, one_token([0.0, 0.0]), picked, style="paper")
    assert routed is not None
    assert paper is not None
    assert routed[0, 0].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    torch.testing.assert_close(paper[0, 0], torch.tensor([[0.45, 0.0], [0.0, 0.4]]))


def test_half_precision_is_routed_in_float32() -> None:
    for dtype in TYPES:
        shared, routed = two_stage_gates(
            one_token([1.0, 2.0], dtype),
            one_token([1.0, 2.0], dtype),
            one_token([0.0, 1.0], dtype),
            torch.ones(1, 1, 2, dtype=torch.bool),
            style="paper",
        )
        wanted = torch.float64 if dtype == torch.float64 else torch.float32
        assert shared is not None
        assert routed is not None
        assert (shared.dtype, routed.dtype, norm_score(one_token([1.0, 2.0], dtype)).dtype) == (wanted,) * 3


def test_wrong_styles_and_empty_layers_are_refused() -> None:
    with pytest.raises(UserError, match="no such style"):
        two_stage_gates(None, logs(0.5, 0.5), None, None, style="code")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no head to weigh"):
        two_stage_gates(None, None, None, None, style="paper")


@given(st.lists(st.sampled_from([-1.0, -0.0, 0.0, 0.5, 2.0]), min_size=1, max_size=12), st.data())
def test_exactly_k_are_picked_and_ties_go_to_the_lowest(values: list[float], data: st.DataObject) -> None:
    """Against Python's own stable order."""
    k = data.draw(st.integers(0, len(values)))
    picked = top_k(one_token(values), k).flatten()
    order = sorted(range(len(values)), key=lambda place: (-values[place], place))
    assert picked.nonzero().flatten().tolist() == sorted(order[:k])


@given(st.permutations(range(6)), st.integers(1, 5))
def test_choices_move_with_the_units(order: list[int], k: int) -> None:
    scores = torch.tensor([3.0, 1.0, 4.0, 1.5, 9.0, 2.6])
    assert top_k(scores[order], k).tolist() == top_k(scores, k)[order].tolist()


def test_nan_counts_as_the_largest() -> None:
    """Routers refuse NaN; the function alone still picks exactly k."""
    assert top_k(torch.tensor([1.0, float("nan"), float("inf"), float("nan")]), 3).tolist() == [False, True, True, True]
    assert top_k(torch.full((4,), float("nan")), 2).tolist() == [True, True, False, False]


def test_more_than_there_are_cannot_be_picked() -> None:
    for k in (-1, 4):
        with pytest.raises(UserError, match="of 3 units"):
            top_k(torch.zeros(3), k)


CASE = (5.0, 4.0, 2.0, 1.0)


def test_norm_score_by_hand() -> None:
    """Mean 3, squares 4 1 1 4, deviation sqrt(10 / 3) = 1.82574; logits 2.73861 2.19089 1.09545 .54772."""
    assert norm_score(one_token(CASE)).flatten().tolist() == pytest.approx(
        [0.53094, 0.30702, 0.10267, 0.05937], abs=5e-6
    )
    plain = (torch.tensor(CASE) / torch.tensor(CASE).std()).softmax(-1)
    torch.testing.assert_close(norm_score(torch.tensor(CASE)), plain)


@pytest.mark.parametrize("factor", [1e-30, 1e-3, 7.0, 1e30])
def test_scaling_all_norms_changes_nothing(factor: float) -> None:
    torch.testing.assert_close(norm_score(torch.tensor(CASE) * factor), norm_score(torch.tensor(CASE)))


@given(st.lists(st.floats(0, 1e6, width=32), min_size=2, max_size=16))
@example([0.0, 0.0, 2.6526579929668787e-42])
@example([1e-30, 1.000001e-30, 1e-30])
@example([1.2e-32, 1.2e-32, 1.3e-32])
def test_scores_are_probabilities_in_the_order_of_the_norms(norms: list[float]) -> None:
    norm = torch.tensor(norms, requires_grad=True)
    score = norm_score(norm)
    assert bool(score.isfinite().all())
    assert score.sum().item() == pytest.approx(1.0, abs=1e-5)
    order = torch.tensor(norms).argsort()
    assert bool((score.detach()[order].diff() >= -1e-6).all())
    (gradient,) = torch.autograd.grad(score[0], norm)
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("value", [0.0, 0.1, 8.0, 6000.0])
@pytest.mark.parametrize("units", [1, 2, 3, 16])
def test_equal_norms_are_uniform_without_a_gradient(value: float, units: int) -> None:
    """The released code gives NaN here; one unit has no deviation at all."""
    norm = torch.full((units,), value, requires_grad=True)
    score = norm_score(norm)
    torch.testing.assert_close(score, torch.full((units,), 1 / units))
    if units > 1:
        (gradient,) = torch.autograd.grad(score[0], norm)
        assert gradient.tolist() == [0.0] * units


def test_two_units_always_score_the_same() -> None:
    """The z-scores of two numbers are +-1 / sqrt(2): .804 and .196, and no gradient."""
    for norms in ([3.0, 1.0], [1000.0, 0.0], [1.001, 1.0]):
        norm = torch.tensor(norms, dtype=torch.float64, requires_grad=True)
        score = norm_score(norm)
        assert score.tolist() == pytest.approx([0.8044, 0.1956], abs=5e-5)
        (gradient,) = torch.autograd.grad(score[0], norm)
        assert gradient.tolist() == pytest.approx([0.0, 0.0], abs=1e-9)


def test_z_scores_are_bounded() -> None:
    """One norm far from 15 equal ones: |z| = 15 / 4 = 3.75 above a common -.25, so e^4 times as likely."""
    norms = torch.zeros(16, dtype=torch.float64)
    norms[3] = 1.0
    score = norm_score(norms)
    assert (score[3] / score[0]).log().item() == pytest.approx(15 / sqrt(16) + 0.25)


def test_straight_through_by_hand() -> None:
    """Case 4 with dL/dg = (1, 0, 0, -1): dL/dnorm = .08362 -.11433 .00851 .02220, orthogonal to the norms."""
    norm = torch.tensor(CASE, dtype=torch.float64, requires_grad=True)
    score = norm_score(norm)
    logits = score.detach().log().requires_grad_()
    gate = straight_through(top_k(norm, 2), score)
    assert gate.tolist() == [1.0, 1.0, 0.0, 0.0]
    upstream = torch.tensor([1.0, 0.0, 0.0, -1.0], dtype=torch.float64)
    (to_norm,) = torch.autograd.grad(gate, norm, upstream)
    (to_logits,) = torch.autograd.grad(logits.softmax(-1), logits, upstream)
    assert to_logits.tolist() == pytest.approx([0.28056, -0.14478, -0.04841, -0.08736], abs=5e-6)
    assert to_norm.tolist() == pytest.approx([0.08362, -0.11433, 0.00851, 0.02220], abs=5e-6)
    assert (to_norm @ norm.detach()).item() == pytest.approx(0.0, abs=1e-12)


def test_norm_score_has_the_gradient_of_finite_differences() -> None:
    norm = torch.tensor([[5.0, 4.0, 2.0, 1.0], [0.3, 0.1, 0.7, 0.2]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm_score, norm)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=8))
def test_straight_through_gates_are_exactly_0_and_1(scores: list[float]) -> None:
    mask = torch.arange(len(scores)) % 2 == 0
    assert straight_through(mask, torch.tensor(scores)).tolist() == mask.float().tolist()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_scores_that_are_not_finite_are_refused(value: float) -> None:
    score = torch.zeros(1, 3, 4)
    refuse_bad_scores(score, what="the numbers")
    score[0, 2, 1] = value
    with pytest.raises(UserError, match="the numbers are not all finite"):
        refuse_bad_scores(score, what="the numbers")
