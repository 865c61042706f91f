"""Learned routers on toy tasks: they find the heads that each type of token needs, and the balance term spreads use."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from strop.heads.balance import load_balance
from strop.heads.layout import HeadLayout
from strop.heads.routers import LearnedRouter

TYPES = 4
PAIRS = torch.tensor([[0, 1], [1, 2], [2, 3], [3, 0]])
"""The two heads that each type of token needs; head i gives the unit vector i."""


def needed(types_bn: Tensor) -> Tensor:
    return one_hot(PAIRS[types_bn], TYPES).sum(-2)


def started(bias: Tensor) -> LearnedRouter:
    """A router of two in four heads that prefers some, whatever the token, but for a little noise."""
    router = LearnedRouter(HeadLayout(query_heads=TYPES, kv_groups=TYPES, shared=(), active=2), TYPES)
    assert router.routed is not None
    noise = torch.randn(TYPES, TYPES, generator=torch.Generator().manual_seed(1))
    router.routed.weight.data = bias[:, None] + 0.01 * noise
    return router


def train(router: LearnedRouter, *, beta: float, task: bool, steps: int = 200) -> float:
    """Train the router alone, and return the mean load-balance value of the last steps."""
    drawn = torch.Generator().manual_seed(2)
    optimiser = torch.optim.Adam(router.parameters(), lr=0.05)
    values = []
    for _ in range(steps):
        types_bn = torch.randint(0, TYPES, (1, 64), generator=drawn)
        routing = router(one_hot(types_bn, TYPES).float())
        value = load_balance(routing.probability_bnce, routing.picked_bnce)
        lack = routing.gate_bnh - needed(types_bn).float()
        loss = lack.square().mean() * float(task) + beta * value
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(value.item())
    return sum(values[-50:]) / 50


@pytest.mark.parametrize("beta", [0.0, 0.01])
def test_the_router_finds_the_heads_of_each_type(beta: float) -> None:
    """Every type needs another pair; the use is even, so the value is near k = 2 with and without its term."""
    router = started(torch.zeros(TYPES))
    value = train(router, beta=beta, task=True)
    every_type = torch.arange(TYPES)[None]
    mask_bnh = router(one_hot(every_type, TYPES).float()).mask_bnh
    assert torch.equal(mask_bnh, needed(every_type).bool())
    assert value == pytest.approx(2.0, abs=0.1)


def test_the_balance_term_spreads_use() -> None:
    """All tokens on the same two heads, logits 1 above the others: 4 x 2 e / (2 e + 2) / 2 = 2.92, and near k after."""
    bias = torch.tensor([1.0, 1.0, 0.0, 0.0])
    assert train(started(bias), beta=0.0, task=False, steps=50) == pytest.approx(2.92, abs=0.02)
    assert train(started(bias), beta=0.01, task=False) == pytest.approx(2.0, abs=0.1)
