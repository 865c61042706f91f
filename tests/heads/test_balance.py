"""The load-balance value by hand, and its gradient through checkpoints and accumulation."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from strop.heads.balance import BalanceScale, inject, load_balance
from strop.heads.gates import top_k


def balance(tokens: Sequence[Sequence[float]], k: int, *, scale: BalanceScale = "released") -> float:
    probability_bnce = torch.tensor(tokens, dtype=torch.float64)[None, :, None]
    return load_balance(probability_bnce, top_k(probability_bnce, k), scale=scale).item()


@pytest.mark.parametrize(
    ("tokens", "paper", "released"),
    [
        ([(0.4, 0.3, 0.2, 0.1), (0.1, 0.2, 0.3, 0.4)], 0.5, 2.0),
        ([(0.4, 0.3, 0.2, 0.1)] * 2, 0.7, 2.8),
        ([(0.5, 0.5, 0.0, 0.0)] * 3, 1.0, 4.0),
        ([(0.25, 0.25, 0.25, 0.25)] * 2, 0.5, 2.0),
    ],
)
def test_values_by_hand(tokens: Sequence[Sequence[float]], paper: float, released: float) -> None:
    """E = 4, k = 2. Second: f = (1, 1, 0, 0), so .4 + .3. Last: ties go to units 0 and 1, P = 1/4 each."""
    assert balance(tokens, 2, scale="paper") == pytest.approx(paper)
    assert balance(tokens, 2) == pytest.approx(released)


def test_values_below_k_exist() -> None:
    """Tokens (.51, .49) x3 and (0, 1) x2: P = (.306, .694), f = (.6, .4): 2 x .4612 = .9224 < 1."""
    assert balance([(0.51, 0.49)] * 3 + [(0.0, 1.0)] * 2, 1) == pytest.approx(0.9224)


def test_uniform_use_has_no_gradient() -> None:
    """F = 1/2 everywhere: the value is a constant times the sum of P, which is 1."""
    logits = torch.tensor([[2.0, 1.0], [1.0, 2.5]], dtype=torch.float64, requires_grad=True)
    probability_bnce = logits.softmax(-1)[None, :, None]
    load_balance(probability_bnce, top_k(probability_bnce, 1)).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.abs().max().item() < 1e-12


def test_the_mean_over_the_choices_of_a_token() -> None:
    """One group balanced (2.0 of E = 2, k = 1 is 2 x .5 = 1), one collapsed (2): 1.5."""
    probability_bnce = torch.tensor([[[0.9, 0.1], [1.0, 0.0]], [[0.1, 0.9], [1.0, 0.0]]])[None]
    assert load_balance(probability_bnce, top_k(probability_bnce, 1)).item() == pytest.approx(1.5)


def test_padding_is_left_out_and_order_does_not_matter() -> None:
    drawn = torch.Generator().manual_seed(7)
    probability_bnce = torch.randn(3, 5, 2, 4, generator=drawn, dtype=torch.float64).softmax(-1)
    picked_bnce = top_k(probability_bnce, 2)
    seen_bn = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 0, 1]]).bool()
    value = load_balance(probability_bnce, picked_bnce, seen_bn=seen_bn)
    real = load_balance(probability_bnce[seen_bn][None], picked_bnce[seen_bn][None])
    torch.testing.assert_close(value, real)
    order = [2, 0, 1]
    shuffled = load_balance(probability_bnce[order], picked_bnce[order], seen_bn=seen_bn[order])
    torch.testing.assert_close(value, shuffled)
    torch.testing.assert_close(
        load_balance(probability_bnce, picked_bnce, seen_bn=torch.ones(3, 5)),
        load_balance(probability_bnce, picked_bnce),
    )


def test_padding_alone_adds_nothing() -> None:
    probability_bnce = torch.full((1, 2, 1, 4), 0.25, requires_grad=True)
    value = load_balance(probability_bnce, top_k(probability_bnce, 2), seen_bn=torch.zeros(1, 2))
    assert value.item() == 0.0


def test_half_precision_is_counted_in_float32() -> None:
    """4,096 tokens with P = 1/4: a bfloat16 mean would round, the value is exactly k."""
    probability_bnce = torch.full((1, 4096, 1, 4), 0.25, dtype=torch.bfloat16)
    value = load_balance(probability_bnce, top_k(probability_bnce, 2))
    assert (value.dtype, value.item()) == (torch.float32, 2.0)


class Layer(nn.Module):
    """A router and a product: enough for the task's and the balance value's gradients to meet in the same weights."""

    def __init__(self, beta: float, *, added: bool = False) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.router = nn.Linear(6, 4, bias=False).double()
        self.mix = nn.Linear(6, 6, bias=False).double()
        self.beta, self.added = beta, added
        self.passes = 0
        self.value = torch.zeros(())

    def forward(self, hidden: Tensor) -> Tensor:
        self.passes += 1
        probability_bnce = self.router(hidden).softmax(-1)[:, :, None]
        picked_bnce = top_k(probability_bnce, 2)
        self.value = load_balance(probability_bnce, picked_bnce)
        gate_bn1 = (probability_bnce * picked_bnce).sum((-1, -2))[..., None]
        output: Tensor = torch.tanh(self.mix(hidden)) * gate_bn1
        return output if self.added else inject(output, self.value, coefficient=self.beta)


def tokens(batch: int = 2) -> Tensor:
    return torch.randn(batch, 5, 6, generator=torch.Generator().manual_seed(batch), dtype=torch.float64)


def gradients(layer: Layer) -> list[Tensor]:
    found = [parameter.grad for parameter in layer.parameters()]
    return [gradient for gradient in found if gradient is not None]


def added(*batches: Tensor, beta: float = 0.3) -> list[Tensor]:
    """Gradients where the value is simply a term of the loss: what injection must equal."""
    layer = Layer(beta, added=True)
    for batch in batches:
        loss = layer(batch).square().mean() + beta * layer.value
        (loss / len(batches)).backward()
    return gradients(layer)


def test_injection_changes_gradients_only() -> None:
    plain, layer = Layer(0.0), Layer(0.3)
    assert torch.equal(plain(tokens()), layer(tokens()))
    layer(tokens()).square().mean().backward()
    torch.testing.assert_close(gradients(layer), added(tokens()))


@pytest.mark.parametrize(("reentrant", "needs_input_gradient"), [(True, True), (False, True), (False, False)])
def test_gradient_checkpointing_counts_once(reentrant: bool, needs_input_gradient: bool) -> None:
    """The layer runs twice, the value's gradient arrives once; reentrant needs an input that has a gradient."""
    layer = Layer(0.3)
    hidden = tokens().requires_grad_(needs_input_gradient)
    output = checkpoint(layer, hidden, use_reentrant=reentrant)
    assert isinstance(output, Tensor)
    output.square().mean().backward()  # type: ignore[no-untyped-call]
    assert layer.passes == 2
    torch.testing.assert_close(gradients(layer), added(tokens()))


@pytest.mark.parametrize("reentrant", [True, False])
def test_two_checkpointed_layers_share_nothing(reentrant: bool) -> None:
    layers, wanted = [Layer(0.3), Layer(0.3)], [Layer(0.3), Layer(0.3)]
    hidden = tokens().requires_grad_()
    for layer in layers:
        hidden = checkpoint(layer, hidden, use_reentrant=reentrant)
    hidden.square().mean().backward()  # type: ignore[no-untyped-call]
    wanted[1](wanted[0](tokens().requires_grad_())).square().mean().backward()
    for layer, plain in zip(layers, wanted, strict=True):
        torch.testing.assert_close(gradients(layer), gradients(plain))


def test_accumulation_averages_the_micro_batches() -> None:
    """Half the coefficient in each of two passes, as the loss: the mean of the two values, not the joint batch's."""
    layer = Layer(0.15)
    for batch in (tokens(1), tokens(2)):
        (layer(batch).square().mean() / 2).backward()
    torch.testing.assert_close(gradients(layer), added(tokens(1), tokens(2)))


def test_passes_without_a_gradient_leave_nothing() -> None:
    """An evaluation between two steps changes no later gradient."""
    layer = Layer(0.3)
    with torch.no_grad():
        layer(tokens(4))
    layer(tokens(3))  # with gradient, but never differentiated
    layer(tokens()).square().mean().backward()
    torch.testing.assert_close(gradients(layer), added(tokens()))


def test_no_value_or_no_weight_is_the_same_tensor() -> None:
    output = torch.zeros(2, requires_grad=True)
    assert inject(output, torch.tensor(1.0), coefficient=0.1) is output
    assert inject(output, torch.tensor(1.0, requires_grad=True), coefficient=0.0) is output


def test_frozen_outputs_still_carry_the_value() -> None:
    """Only the router learns: the output has no gradient of its own, the loss has through it."""
    value = torch.tensor(2.0, requires_grad=True)
    inject(torch.ones(3), value, coefficient=0.25).sum().backward()  # type: ignore[no-untyped-call]
    assert value.grad is not None
    assert value.grad.item() == 0.25


def test_the_type_of_the_value_is_kept() -> None:
    """A bfloat16 layer with a float32 value."""
    output, value = torch.ones(3, dtype=torch.bfloat16, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    inject(output, value, coefficient=0.01).sum().backward()  # type: ignore[no-untyped-call]
    assert value.grad is not None
    assert value.grad.dtype == torch.float32
    assert output.grad is not None
    assert output.grad.dtype == torch.bfloat16
