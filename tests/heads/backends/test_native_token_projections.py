"""Projections of one new token by the C++ kernels, against torch in fp64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from head_cases import relative_error
from strop.errors import UserError
from strop.heads.backends import native

pytestmark = pytest.mark.usefixtures("isa")

BOUND = 1e-6
SIZES = ((1, 9, 64, 576, 6), (3, 8, 16, 48, 3), (2, 4, 128, 1040, 1), (8, 5, 32, 16, 5), (2, 3, 48, 80, 0))
"""Rows, heads, head width, model width, chosen heads; model widths are no multiple of a task's rows."""


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def chosen_heads(batch: int, heads: int, count: int) -> Tensor:
    order = drawn(batch, 1, heads).argsort(-1)
    return order < count


def expected(token: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return linear(token.double(), weight.double(), None if bias is None else bias.double())


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_queries_are_the_dense_ones_of_chosen_heads_and_zero_for_others(
    size: tuple[int, int, int, int, int], with_bias: bool
) -> None:
    batch, heads, width, model, count = size
    mask = chosen_heads(batch, heads, count)
    token, weight = drawn(batch, 1, model), drawn(heads * width, model)
    bias = drawn(heads * width) if with_bias else None
    found = native.token_queries(token, weight, bias, mask)
    kept = mask.repeat_interleave(width, dim=-1)
    assert relative_error(found, expected(token, weight, bias) * kept) < BOUND
    assert not found[~kept].any()


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_output_is_the_dense_one(size: tuple[int, int, int, int, int], with_bias: bool) -> None:
    batch, heads, width, model, count = size
    mask = chosen_heads(batch, heads, count)
    wide = drawn(batch, 1, heads * width) * mask.repeat_interleave(width, dim=-1)
    weight, bias = drawn(model, heads * width), drawn(model) if with_bias else None
    assert relative_error(native.token_output(wide, weight, bias, mask), expected(wide, weight, bias)) < BOUND


def test_weights_of_heads_that_nobody_chose_are_not_read() -> None:
    """A NaN there would show."""
    mask = torch.tensor([[[True, False, False, False]], [[False, False, False, True]]])
    token, weight = drawn(2, 1, 32), drawn(4 * 16, 32)
    weight[16:48] = float("nan")
    assert native.token_queries(token, weight, None, mask).isfinite().all()
    wide, weight = drawn(2, 1, 4 * 16) * mask.repeat_interleave(16, dim=-1), drawn(32, 4 * 16)
    weight[:, 16:48] = float("nan")
    assert native.token_output(wide, weight, None, mask).isfinite().all()


def test_threads_change_nothing() -> None:
    """2,048 x 2,048 weights are worth several threads."""
    mask = chosen_heads(2, 32, 24)
    token, weight = drawn(2, 1, 2048), drawn(2048, 2048)
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(
                (native.token_queries(token, weight, None, mask), native.token_output(token, weight, None, mask))
            )
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_another_default_type_changes_nothing() -> None:
    """Outputs are allocated like their inputs."""
    mask, token, weight = chosen_heads(1, 4, 2), drawn(1, 1, 32), drawn(64, 32)
    kept = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        found = native.token_queries(token, weight, None, mask)
    finally:
        torch.set_default_dtype(kept)
    assert torch.equal(found, native.token_queries(token, weight, None, mask))


def test_any_strides_are_taken() -> None:
    mask = chosen_heads(1, 4, 2)
    token, weight = drawn(1, 1, 64)[..., ::2], drawn(32, 64).T
    found = native.token_queries(token, weight, None, mask)
    assert torch.equal(found, native.token_queries(token.contiguous(), weight.contiguous(), None, mask))


@pytest.mark.parametrize(
    ("token", "weight", "bias", "message"),
    [
        (drawn(1, 1, 32).bfloat16(), drawn(64, 32), None, "bfloat16"),
        (drawn(1, 2, 32), drawn(64, 32), None, "token"),
        (drawn(1, 1, 16), drawn(64, 32), None, "token"),
        (drawn(1, 1, 32), drawn(64, 32), drawn(32), "bias"),
        (drawn(1, 1, 40), drawn(64, 40), None, "model width"),
        (drawn(1, 1, 32), drawn(60, 32), None, "head width"),
    ],
)
def test_what_does_not_fit_is_refused(token: Tensor, weight: Tensor, bias: Tensor | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        native.token_queries(token, weight, bias, chosen_heads(1, 4, 2))
