"""One new token behind a cache, with the heads or the KV groups that it chose: unchosen groups' keys are not read.

With whole groups chosen (`HeadLayout.choice` ``groups``) the reads fall with the share of groups; with heads chosen
freely a group is idle only where none of its heads was chosen. Keys are views of the cache, never copies.

Shapes: b batch rows, t keys of the cache, h query heads, g KV heads, m = h / g, d head width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from strop.errors import UserError
from strop.heads.attention import backend_now, load_backend, with_gradient
from strop.heads.backends.reference import gated_attention
from strop.heads.choosing import decoding_backend
from strop.heads.plan import routing_plan
from strop.heads.visibility import Visible, causal


def moh_decode(
    query_bh1d: Tensor,
    key_bgtd: Tensor,
    value_bgtd: Tensor,
    *,
    head_mask_bnh: Tensor | None = None,
    group_mask_bng: Tensor | None = None,
    gate_bnh: Tensor | None = None,
    visible: Visible | None = None,
    scale: float | None = None,
    backend: str = "auto",
) -> Tensor:
    """Attend from one new token of each row with the chosen heads, or groups, only.

    Args:
        query_bh1d: Queries of the new token.
        key_bgtd: The cache, of fixed size (static) or as long as needed (dynamic).
        value_bgtd: See `key_bgtd`.
        head_mask_bnh: (b, 1, h) the heads that the token uses; or
        group_mask_bng: (b, 1, g) the KV groups, all heads of which it uses. Neither: all.
        gate_bnh: (b, 1, h) gates; 1 where not given.
        visible: The keys that each row's token sees, as ``first..last``: what lies behind them in a static cache is not
            read. All by default.
        scale: Of the scores; ``1 / sqrt(d)`` by default.
        backend: A name of `strop.heads.attention.BACKENDS`, or ``auto``.

    Returns:
        (b, h, 1, d), zero for heads that were not chosen.

    Raises:
        UserError: More than one token, heads and groups both, or a backend that cannot run here.
    """
    if query_bh1d.shape[2] != 1:
        raise UserError("decoding takes one new token", value=query_bh1d.shape[2], fix="use moh_attention for more")
    if head_mask_bnh is not None and group_mask_bng is not None:
        raise UserError("a token's heads can be given in one way only", fix="give head_mask_bnh or group_mask_bng")
    b, heads, _, d = query_bh1d.shape
    groups, keys = key_bgtd.shape[1], key_bgtd.shape[2]
    if group_mask_bng is not None:
        head_mask_bnh = group_mask_bng.repeat_interleave(heads // groups, dim=-1)
    if head_mask_bnh is None:
        head_mask_bnh = torch.ones(b, 1, heads, dtype=torch.bool, device=query_bh1d.device)
    visible = causal(b, 1, keys, device=query_bh1d.device) if visible is None else visible
    scale = d**-0.5 if scale is None else scale
    name = backend_now(backend)
    if name == "auto":
        share = 1.0 if query_bh1d.device.type != "cpu" else float(head_mask_bnh.sum()) / max(1, head_mask_bnh.numel())
        name = decoding_backend(query_bh1d, key_bgtd, share=share)
    arguments: dict[str, Any] = {"head_mask_bnh": head_mask_bnh, "visible": visible, "scale": scale}
    if name == "native" and not with_gradient(query_bh1d, key_bgtd, value_bgtd, gate_bnh):
        from strop.heads.backends import native

        return native.decode(query_bh1d, key_bgtd, value_bgtd, gate_bnh=gate_bnh, **arguments)
    if name == "reference":
        gate = head_mask_bnh if gate_bnh is None else gate_bnh * head_mask_bnh
        return gated_attention(query_bh1d, key_bgtd, value_bgtd, gate_bnh=gate, visible=visible, scale=scale)
    if name == "gathered" and query_bh1d.device.type == "cpu":
        out_bh1d = _by_views(query_bh1d, key_bgtd, value_bgtd, **arguments)
    else:
        out_bh1d = _by_backend(name, query_bh1d, key_bgtd, value_bgtd, **arguments)
    return out_bh1d if gate_bnh is None else out_bh1d * gate_bnh.permute(0, 2, 1)[..., None].to(out_bh1d.dtype)


def _by_views(
    query_bh1d: Tensor, key_bgtd: Tensor, value_bgtd: Tensor, *, head_mask_bnh: Tensor, visible: Visible, scale: float
) -> Tensor:
    """Attend group by group; a group's chosen heads are the queries of one call that reads its keys once."""
    b, heads, _, d = query_bh1d.shape
    groups = key_bgtd.shape[1]
    members = heads // groups
    out_bgmd = query_bh1d.new_zeros(b, groups, members, d)
    query_bgmd = query_bh1d.reshape(b, groups, members, d)
    chosen = head_mask_bnh.view(b, groups, members).tolist()
    spans = [(0, key_bgtd.shape[2])] * b if visible.causal or visible.everything else _spans(visible)
    for row, (first, stop) in enumerate(spans):
        if stop <= first:
            continue
        for group, flags in enumerate(chosen[row]):
            if not any(flags):
                continue
            keys, values = (x[row : row + 1, group : group + 1, first:stop] for x in (key_bgtd, value_bgtd))
            query = query_bgmd[row : row + 1, group : group + 1]
            if all(flags):
                out_bgmd[row, group] = scaled_dot_product_attention(query, keys, values, scale=scale)[0, 0]
            else:
                picked = [member for member, flag in enumerate(flags) if flag]
                found = scaled_dot_product_attention(query[:, :, picked], keys, values, scale=scale)
                out_bgmd[row, group, picked] = found[0, 0]
    return out_bgmd.view(b, heads, 1, d)


def _spans(visible: Visible) -> list[tuple[int, int]]:
    firsts, lasts = visible.first_bn[:, 0].tolist(), visible.last_bn[:, 0].tolist()
    return [(first, last + 1) for first, last in zip(firsts, lasts, strict=True)]


def _by_backend(
    name: str,
    query_bh1d: Tensor,
    key_bgtd: Tensor,
    value_bgtd: Tensor,
    *,
    head_mask_bnh: Tensor,
    visible: Visible,
    scale: float,
) -> Tensor:
    """Attend by a backend's own decoding of packed rows where it has one, else by its attention."""
    plan = routing_plan(head_mask_bnh, groups=key_bgtd.shape[1], visible=visible)
    query_rd = plan.pack(query_bh1d)
    module = load_backend(name)
    reason = module.missing(query_rd, plan)
    if reason is not None:
        raise UserError("this attention backend cannot run here", value=name, why=reason)
    # The native kernel decodes from unpacked queries and has no gradient.
    attend = module.attend if name == "native" else getattr(module, "decode", module.attend)
    out_rd: Tensor = attend(query_rd, key_bgtd, value_bgtd, plan=plan, scale=scale)
    return plan.unpack(out_rd)
