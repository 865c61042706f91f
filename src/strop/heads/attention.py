"""One function for attention in which each token uses some heads: `moh_attention`.

Every backend computes what the reference computes (all heads, then the gates; MoH eq. 2 and 3) for the chosen pairs
only. Keys and values exist for all tokens and groups, so caches, causality and other tokens are untouched.

Shapes: b batch rows, n queries, t keys, h query heads, g KV heads, d head width, r rows of a plan, k chosen heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import Protocol, cast

import torch
from torch import Tensor

from strop.errors import UserError
from strop.heads.backends.reference import dense_attention, gated
from strop.heads.choosing import attention_backend, rows_backend
from strop.heads.plan import RoutingPlan, routing_plan
from strop.heads.visibility import Visible, causal

BACKENDS = ("reference", "gathered", "native", "triton", "flex")
"""The oracle, pure torch, C++ built on first use, GPU kernels, torch's FlexAttention."""


_OVERRIDE: ContextVar[str | None] = ContextVar("strop_heads_backend", default=None)


@contextmanager
def using(name: str) -> Iterator[None]:
    """Run everything inside the ``with`` by one backend, whatever a model or a call names.

    Of this thread or task only; contexts nest. Checkpointed layers that are computed again in the backward pass need
    the context around that pass too.

    Args:
        name: A name of `BACKENDS`, or ``auto``.

    Raises:
        UserError: There is no such backend.
    """
    _known(name)
    token = _OVERRIDE.set(name)
    try:
        yield
    finally:
        _OVERRIDE.reset(token)


def backend_now(named: str) -> str:
    """Return the backend to use for a call that names one: the innermost `using`, else `named`.

    Raises:
        UserError: There is no such backend.
    """
    return _known(_OVERRIDE.get() or named)


def _known(name: str) -> str:
    if name != "auto" and name not in BACKENDS:
        raise UserError("there is no such attention backend", value=name, alternatives=("auto", *BACKENDS))
    return name


def with_gradient(*tensors: Tensor | None) -> bool:
    """Say whether a gradient may be asked of what is computed from these tensors now."""
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


class Backend(Protocol):
    """A way to attend from packed rows: what each module of `strop.heads.backends` but the reference offers."""

    def missing(self, query: Tensor, plan: RoutingPlan) -> str | None:
        """Say why this call cannot run here, or None where it can."""
        ...

    def attend(
        self, query_rd: Tensor, key_bgtd: Tensor, value_bgtd: Tensor, *, plan: RoutingPlan, scale: float
    ) -> Tensor:
        """Attend from every row to the keys that it sees; (r, d), zero for rows that see nothing. Differentiable."""
        ...


def moh_attention(
    query: Tensor,
    key_bgtd: Tensor,
    value_bgtd: Tensor,
    *,
    index_bnk: Tensor | None = None,
    head_mask_bnh: Tensor | None = None,
    weight_bnh: Tensor | None = None,
    plan: RoutingPlan | None = None,
    visible: Visible | None = None,
    scale: float | None = None,
    backend: str = "auto",
) -> Tensor:
    """Attend with the chosen heads only and weight what each gives.

    Args:
        query: (b, h, n, d), or the packed rows (r, d) of `plan`.
        key_bgtd: Keys of all tokens.
        value_bgtd: Values of all tokens.
        index_bnk: Heads of each token; or
        head_mask_bnh: which heads a token uses; or `plan`. None of them: all heads.
        weight_bnh: Gates, differentiable; 1 where not given. Only the chosen pairs' entries are read.
        plan: The same choice, packed once; with it nothing of the choice is computed again.
        visible: The keys that each query sees; by default those up to its own place, the last query seeing all.
        scale: Of the scores; ``1 / sqrt(d)`` by default.
        backend: A name of `BACKENDS`, or ``auto``: the one that was fastest when this machine was calibrated.

    Returns:
        As `query`; zero for heads that were not chosen and for queries that see nothing.

    Raises:
        UserError: More than one choice, a packed query without a plan, an unknown backend, or one that cannot run here.
    """
    backend = backend_now(backend)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if query.dim() == 2:
        if plan is None:
            raise UserError("packed rows need their plan", fix="pass plan=, the one that packed them")
        return _attend_rows(query, key_bgtd, value_bgtd, weight_bnh, plan=plan, scale=scale, backend=backend)
    if (index_bnk is not None) + (head_mask_bnh is not None) + (plan is not None) > 1:
        raise UserError("a token's heads can be given in one way only", fix="give index_bnk, head_mask_bnh or plan")
    batch, heads, queries, _ = query.shape
    _, groups, keys, _ = key_bgtd.shape
    visible = plan.visible if plan is not None else visible
    if visible is None:
        visible = causal(batch, queries, keys, device=query.device)
    if index_bnk is not None:
        empty_bnh = torch.zeros(batch, queries, heads, dtype=torch.bool, device=query.device)
        head_mask_bnh = empty_bnh.scatter(2, index_bnk, True)
    rows = _rows_known(batch * queries * heads, index_bnk, head_mask_bnh, plan)
    if backend == "auto":
        backend = attention_backend(
            query,
            batch=batch,
            queries=queries,
            keys=keys,
            heads=heads,
            groups=groups,
            rows=rows,
            training=with_gradient(query, key_bgtd, value_bgtd),
        )
    if backend == "reference":
        out_bhnd = dense_attention(query, key_bgtd, value_bgtd, visible=visible, scale=scale)
        if rows == batch * queries * heads:
            return out_bhnd if weight_bnh is None else gated(out_bhnd, weight_bnh)
        mask_bnh = _mask_of(plan) if head_mask_bnh is None else head_mask_bnh
        return gated(out_bhnd, mask_bnh if weight_bnh is None else weight_bnh.masked_fill(~mask_bnh, 0.0))
    if plan is None:
        if head_mask_bnh is None:
            head_mask_bnh = torch.ones(batch, queries, heads, dtype=torch.bool, device=query.device)
        taken = None if index_bnk is None else index_bnk.shape[2]
        plan = routing_plan(head_mask_bnh, groups=groups, visible=visible, heads_per_token=taken)
    rows_rd = _attend_rows(plan.pack(query), key_bgtd, value_bgtd, weight_bnh, plan=plan, scale=scale, backend=backend)
    return plan.unpack(rows_rd)


def load_backend(name: str) -> Backend:
    """Import a backend of packed rows."""
    if name not in BACKENDS[1:]:
        raise UserError("there is no such attention backend", value=name, alternatives=BACKENDS)
    return cast(Backend, import_module(f"strop.heads.backends.{name}"))


def _attend_rows(
    query_rd: Tensor,
    key_bgtd: Tensor,
    value_bgtd: Tensor,
    weight_bnh: Tensor | None,
    *,
    plan: RoutingPlan,
    scale: float,
    backend: str,
) -> Tensor:
    if backend == "auto":
        backend = rows_backend(query_rd, plan, training=with_gradient(query_rd))
    if backend == "reference":
        dense = dense_attention(plan.unpack(query_rd), key_bgtd, value_bgtd, visible=plan.visible, scale=scale)
        out_rd = plan.pack(dense)
    else:
        chosen = load_backend(backend)
        reason = chosen.missing(query_rd, plan)
        if reason is not None:
            raise UserError("this attention backend cannot run here", value=backend, why=reason)
        out_rd = chosen.attend(query_rd, key_bgtd, value_bgtd, plan=plan, scale=scale)
    if weight_bnh is None:
        return out_rd
    return out_rd * plan.pack_gate(weight_bnh)[:, None].to(out_rd.dtype)


def _rows_known(
    pairs: int, index_bnk: Tensor | None, head_mask_bnh: Tensor | None, plan: RoutingPlan | None
) -> int | None:
    """Return the number of chosen pairs; None where counting them would wait for a device."""
    if plan is not None:
        return plan.rows
    if index_bnk is not None:
        return index_bnk.numel()
    if head_mask_bnh is None:
        return pairs
    return int(torch.count_nonzero(head_mask_bnh)) if head_mask_bnh.device.type == "cpu" else None


def _mask_of(plan: RoutingPlan | None) -> Tensor:
    """Return which heads the tokens of a plan use; (b, n, h)."""
    assert plan is not None, "a choice is a mask, an index or a plan"
    flat = torch.zeros(plan.batch * plan.queries * plan.heads, dtype=torch.bool, device=plan.token_r.device)
    flat = flat.index_fill(0, plan.token_r * plan.heads + plan.head_r, True)
    return flat.view(plan.batch, plan.queries, plan.heads)
