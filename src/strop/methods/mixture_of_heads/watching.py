"""How the tokens of held-back text use the heads: by layer and by type of token, and how balanced that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from strop.heads.balance import load_balance
from strop.heads.routers import LearnedRouter, QueryNormRouter
from strop.heads.routing import Routing
from strop.methods.mixture_of_heads.token_types import TOKEN_TYPES, token_types

READ_AT_ONCE = 8


def routers_in(model: Any) -> list[Any]:
    """Return the routers of a model in which tokens choose, the first layer first."""
    return [module for module in model.modules() if isinstance(module, (LearnedRouter, QueryNormRouter))]


def head_use(
    model: Any, tokenizer: Any, blocks: Sequence[Sequence[int]], *, advance: Callable[[int], None] = lambda done: None
) -> dict[str, Any] | None:
    """Read blocks and count which heads their tokens use.

    Args:
        model: With routed heads; None comes back for one without a choice.
        tokenizer: Of the model.
        blocks: Token ids of held-back text, of any lengths.
        advance: Told how many blocks were read.

    Returns:
        ``types``: names and numbers of tokens; ``layers``: for each layer that routes, ``use`` (a row for each type, a
        share of its tokens for each head), ``balance`` (the released scale, the mean over the blocks read together),
        ``active`` (K of that scale) and ``units``.
    """
    routers = routers_in(model)
    if not routers:
        return None
    counts = torch.zeros(len(routers), len(TOKEN_TYPES), routers[0].layout.query_heads, dtype=torch.float64)
    balance = torch.zeros(len(routers), dtype=torch.float64)
    seen = torch.zeros(len(TOKEN_TYPES), dtype=torch.float64)
    tokens = 0
    # One length at a time: padding would choose heads too.
    by_length = sorted(blocks, key=len, reverse=True)
    for some in _alike(by_length):
        kinds = torch.tensor([[TOKEN_TYPES.index(kind) for kind in token_types(tokenizer, ids)] for ids in some])
        ids = torch.tensor([list(one) for one in some], device=next(model.parameters()).device)
        with _watched(routers) as routings:
            model(input_ids=ids, use_cache=False)
        for layer, routing in enumerate(routings):
            mask_tk = routing.mask_bnh.flatten(0, 1).double().cpu()
            counts[layer].index_add_(0, kinds.flatten(), mask_tk)
            balance[layer] += _balance(routing) * ids.numel()
        seen += torch.bincount(kinds.flatten(), minlength=len(TOKEN_TYPES))
        tokens += ids.numel()
        advance(len(some))
    shares = counts / seen.clamp(min=1)[None, :, None]
    return {
        "types": dict(zip(TOKEN_TYPES, map(int, seen), strict=True)),
        "layers": [
            {
                "use": [[round(value, 5) for value in row] for row in shares[layer].tolist()],
                "balance": float(balance[layer]) / tokens,
                "active": router.layout.active,
                "units": router.layout.units,
            }
            for layer, router in enumerate(routers)
        ],
    }


def _alike(blocks: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    together: list[Sequence[int]] = []
    for block in blocks:
        if together and (len(block) != len(together[0]) or len(together) == READ_AT_ONCE):
            yield together
            together = []
        together.append(block)
    if together:
        yield together


def _balance(routing: Routing) -> float:
    assert routing.probability_bnce is not None, "a router that is watched tells its probabilities"
    assert routing.picked_bnce is not None
    value: Tensor = load_balance(routing.probability_bnce, routing.picked_bnce, scale="released")
    return float(value.detach())


@contextmanager
def _watched(routers: Sequence[Any]) -> Iterator[list[Routing]]:
    """Collect what the routers decide; they tell their probabilities in training mode alone."""
    seen: list[Routing] = []
    modes = [router.training for router in routers]
    handles = [
        router.register_forward_hook(lambda _module, _given, routing: seen.append(routing)) for router in routers
    ]
    try:
        for router in routers:
            router.train()
        with torch.no_grad():
            yield seen
    finally:
        for router, mode, handle in zip(routers, modes, handles, strict=True):
            router.train(mode)
            handle.remove()
