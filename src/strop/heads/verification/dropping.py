"""What leaving heads out costs before any training: the loss on a few texts, for several choices of shared heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from warnings import catch_warnings, simplefilter

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from strop.errors import UserError
from strop.heads.importance import gradient_importance
from strop.heads.layout import HeadLayout, active_share, layout_for
from strop.heads.modeling.variants import dense_twin, with_layouts
from strop.heads.requested import shared_count
from strop.heads.sharing import Sharing, shared_heads
from strop.heads.verification.report import Drop

RULES: dict[Sharing, str] = {
    "first": "first half (paper)",
    "per_group": "one of each group",
    "importance": "most important",
    "none": "none",
}


def drops(
    model: Any, weighing: Sequence[Tensor], measuring: Sequence[Tensor], *, advance: Callable[[], None] = lambda: None
) -> tuple[Drop, ...]:
    """Measure the loss of the dense model, of a converted one as it is, and of other shared heads at its share.

    The other ones have this model's kind of router, a learned one at zero: its tokens then take the first routed heads.

    Args:
        model: The converted model.
        weighing: Token ids (1, n) of texts by which the most important heads are found.
        measuring: Token ids of other texts.
        advance: Called after each row.
    """
    dense = dense_twin(model)
    whole = loss(dense, measuring)
    own = list(model.moh_settings.layers)
    found = [Drop(shared="dense model", layout="all heads", active=1.0, loss=whole, drop=0.0)]
    advance()
    found.append(_measured("this model", own, model, measuring, whole))
    advance()
    for rule, title in RULES.items():
        try:
            layouts = _other(rule, own, dense, weighing)
        except UserError as error:
            found.append(Drop(shared=title, layout=f"none: {error.what}"))
        else:
            with catch_warnings():
                simplefilter("ignore")  # nobody trains a router of one pick here
                with with_layouts(model, layouts):
                    found.append(_measured(title, layouts, model, measuring, whole))
        advance()
    return tuple(found)


def loss(model: Any, texts: Sequence[Tensor]) -> float:
    """Return the mean loss of the next token, nats, over all tokens of the texts."""
    total, count = 0.0, 0
    for ids_1n in texts:
        with torch.no_grad():
            logits_nv = model(input_ids=ids_1n, use_cache=False).logits[0, :-1].float()
        total += float(cross_entropy(logits_nv, ids_1n[0, 1:], reduction="sum"))
        count += ids_1n.shape[1] - 1
    return total / count


def _measured(title: str, layouts: list[HeadLayout], model: Any, texts: Sequence[Tensor], whole: float) -> Drop:
    found = loss(model, texts)
    return Drop(
        shared=title,
        layout=layouts[0].describe(),
        active=active_share(layouts).over_heads,
        loss=found,
        drop=found - whole,
    )


def _other(rule: Sharing, own: list[HeadLayout], dense: Any, weighing: Sequence[Tensor]) -> list[HeadLayout]:
    """Lay out every layer at the model's share with shared heads by another rule."""
    first = own[0]
    heads, groups, choice = first.query_heads, first.kv_groups, first.choice
    if rule == "per_group" and heads == groups:
        raise UserError("one of each group would be every head")
    importance = None
    if rule == "importance":
        importance = gradient_importance(dense, [{"input_ids": ids_1n} for ids_1n in weighing]).tolist()
    every = shared_heads(
        rule,
        layers=len(own),
        query_heads=heads,
        kv_groups=groups,
        choice=choice,
        count=shared_count(heads, groups, choice) if rule == "importance" else None,
        importance=importance,
    )
    share = active_share(own).over_heads
    return [layout_for(heads, groups, active_share=share, shared=shared, choice=choice) for shared in every]
