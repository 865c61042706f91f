"""What mixture-of-head attention can gain at best: bounds from counted operations and bytes; nothing is measured here.

Symbols as in the papers: d width, h query heads, G KV heads, c head width, f MLP width, n context, B batch, r active
share. Keys and values are made for every token and head, so the query side alone shrinks with r. No bound exceeds 1/r.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import comb
from typing import Any, Literal

from strop.errors import UserError
from strop.heads.layout import HeadLayout

Skipped = Literal["attention", "o", "q"]
"""A part that is computed for the chosen (token, head) pairs only."""

CORE: tuple[Skipped, ...] = ("attention",)
"""Only the attention of chosen pairs is computed; projections are dense."""
NORM_ROUTER: tuple[Skipped, ...] = ("attention", "o")
"""The output projection too; a router that reads the norms of the queries needs all of these."""
LEARNED_ROUTER: tuple[Skipped, ...] = ("attention", "o", "q")
"""All that r touches: the router reads the layer's input, so queries of unchosen pairs are not made either."""


@dataclass(frozen=True, kw_only=True)
class DecoderShape:
    """The sizes of a decoder whose layers are alike.

    Attributes:
        width: d.
        layers: L.
        query_heads: h.
        kv_groups: G; a divisor of h.
        head_width: c.
        mlp_width: f; 0 for an attention layer alone.
        mlp_matrices: 3 with a gate (SwiGLU), 2 without.
        vocabulary: Rows of the output table; 0 leaves it out.
    """

    width: int
    layers: int
    query_heads: int
    kv_groups: int
    head_width: int
    mlp_width: int
    mlp_matrices: int = 3
    vocabulary: int = 0

    @classmethod
    def of(cls, config: Any) -> DecoderShape:
        """Read the sizes off a transformers config, or off a mapping with its names."""
        values: Mapping[str, Any] = config if isinstance(config, Mapping) else config.to_dict()
        heads, width = int(values["num_attention_heads"]), int(values["hidden_size"])
        return cls(
            width=width,
            layers=int(values["num_hidden_layers"]),
            query_heads=heads,
            kv_groups=int(values.get("num_key_value_heads") or heads),
            head_width=int(values.get("head_dim") or width // heads),
            mlp_width=int(values["intermediate_size"]),
            vocabulary=int(values.get("vocab_size") or 0),
        )


@dataclass(frozen=True)
class LayerFlops:
    """Floating-point operations of one token in one layer, by part; a multiplication and an addition are two."""

    q: float
    o: float
    kv: float
    attention: float
    mlp: float

    @property
    def total(self) -> float:
        """All parts."""
        return self.q + self.o + self.kv + self.attention + self.mlp

    @property
    def attention_share(self) -> float:
        """The part of the total that is attention itself, 0 to 1."""
        return self.attention / self.total

    def skipping(self, share: float, skipped: Collection[Skipped]) -> float:
        """Return what is left of the total where the `skipped` parts are done for `share` of the pairs only."""
        return self.total - (1.0 - share) * sum(float(getattr(self, part)) for part in skipped)


@dataclass(frozen=True)
class DecodeBytes:
    """Bytes that one decoding step reads: the weights once for the whole batch, keys and values of each sequence.

    Attributes:
        weights: All weights but the input table, of which a token reads one row.
        q: The part of `weights` that is the query projections.
        o: The part of `weights` that is the output projections.
        kv: Keys and values of the whole batch.
    """

    weights: float
    q: float
    o: float
    kv: float

    @property
    def kv_share(self) -> float:
        """The part of all bytes that is keys and values, 0 to 1."""
        return self.kv / (self.weights + self.kv)


def prefill_flops(shape: DecoderShape, tokens: int) -> LayerFlops:
    """Count one layer's operations for a token of a context that is read at once, averaged over its places.

    Llama-3-8B: q and o 33.6 M each, k and v together 16.8 M, MLP 352.3 M; attention 16.8 M at 2,048 tokens.

    Args:
        shape: The decoder.
        tokens: n; a token sees n / 2 keys on average.
    """
    wide = shape.query_heads * shape.head_width
    return LayerFlops(
        q=2.0 * shape.width * wide,
        o=2.0 * shape.width * wide,
        kv=4.0 * shape.width * shape.kv_groups * shape.head_width,
        attention=4.0 * wide * tokens / 2,
        mlp=2.0 * shape.mlp_matrices * shape.width * shape.mlp_width,
    )


def decode_flops(shape: DecoderShape, context: int) -> LayerFlops:
    """Count one layer's operations for one new token behind `context` cached ones, all of which it sees."""
    return prefill_flops(shape, 2 * context)


def prefill_speedup(
    shape: DecoderShape,
    tokens: int,
    share: float,
    *,
    skipped: Collection[Skipped] = LEARNED_ROUTER,
    attention_rate: float = 1.0,
    output_table: bool = False,
) -> float:
    """Return the best possible ratio, dense over sparse, of a whole prefill or training step.

    Llama-3-8B at 8,192 tokens and r = 0.5: 1.07 for the core, 1.11 with o_proj, 1.15 with q_proj.

    Args:
        shape: The decoder.
        tokens: n.
        share: r, the mean over layers, in (0, 1].
        skipped: Which parts are done for the chosen pairs only: `CORE`, `NORM_ROUTER` or `LEARNED_ROUTER`.
        attention_rate: Operations a second of attention over those of matrix products; below 1 attention weighs more.
        output_table: Also count the logits of every token, as a training step does.

    Returns:
        At least 1. A training step's backward pass does twice the work of its forward pass in every part, so the
        ratio is the same.
    """
    check_share(share)
    flops = prefill_flops(shape, tokens)
    weighed = LayerFlops(flops.q, flops.o, flops.kv, flops.attention / attention_rate, flops.mlp)
    logits = 2.0 * shape.width * shape.vocabulary / shape.layers if output_table else 0.0
    return (weighed.total + logits) / (weighed.skipping(share, skipped) + logits)


def layer_ideal(
    share: float,
    *,
    heads_per_group: int,
    tokens_over_width: float,
    skipped: Collection[Skipped] = LEARNED_ROUTER,
    mlp: bool = False,
) -> float:
    """Return the best possible ratio of one attention layer whose heads fill its width, with or without a SwiGLU MLP.

    ``(2 + 2/g + T/D) / (2r + 2/g + r T/D)``, and with an MLP of 8/3 of the width 8 more above and below. Multi-head
    attention at T = 2 D and r = 0.5: 6 / 4 = 1.5.

    Args:
        share: r, in (0, 1].
        heads_per_group: g, query heads that share a key.
        tokens_over_width: T / D.
        skipped: Which parts shrink; without ``q`` the numerator's first 2 becomes 1 + r below.
        mlp: Count the MLP of the block too.
    """
    check_share(share)
    flops = LayerFlops(1.0, 1.0, 2.0 / heads_per_group, tokens_over_width, 8.0 if mlp else 0.0)
    return flops.total / flops.skipping(share, skipped)


def group_use(routed: int, active: int, members: int) -> tuple[float, ...]:
    """Return how probable it is that 0, 1, ... `members` heads of one group are among the chosen: hypergeometric.

    8 of 16 routed heads, 4 in a group: 3.8, 24.6, 43.1, 24.6 and 3.8 %.

    Args:
        routed: Heads that compete, E; each equally likely.
        active: How many of them a token takes, K.
        members: Routed heads in the group.
    """
    if not 0 <= members <= routed or not 0 <= active <= routed:
        raise UserError(
            "a group's heads and the active ones must be among those that compete",
            value=f"{members} in the group, {active} active, {routed} competing",
        )
    ways = comb(routed, active)
    return tuple(
        comb(members, used) * comb(routed - members, active - used) / ways if used <= active else 0.0
        for used in range(members + 1)
    )


def idle_share(layout: HeadLayout) -> float:
    """Return the part of a layer's KV groups of which a token uses no head, so that decoding need not read them.

    Balanced and independent choices are assumed. 24 of 32 heads freely chosen, 4 in a group: 0.2 %; 4 of 8 whole
    groups: 50 %; with exactly k >= 1 heads in every group: 0.
    """
    idle = 0.0
    for group in range(layout.kv_groups):
        if layout.shared_in(group):
            continue
        if layout.choice == "groups":
            idle += 1.0 - layout.active / layout.units
        elif layout.choice == "per_group":
            idle += layout.active == 0
        else:
            idle += group_use(len(layout.routed), layout.active, layout.heads_per_group)[0]
    return idle / layout.kv_groups


def union_share(share: float, batch: int) -> float:
    """Return the part of the heads that at least one of `batch` tokens uses: ``1 - (1 - r)^B``."""
    return float(1.0 - (1.0 - share) ** batch)


def decode_bytes(shape: DecoderShape, context: int, batch: int, *, number_bytes: float = 2.0) -> DecodeBytes:
    """Count what one decoding step reads; Llama-3-8B in bf16: 15.0 GB of weights, 128 KiB a token of keys and values.

    Args:
        shape: The decoder.
        context: n, cached tokens of each sequence.
        batch: B, sequences.
        number_bytes: w, bytes of a number.
    """
    layer = prefill_flops(shape, 0)
    weights = shape.layers * layer.total / 2 + shape.width * shape.vocabulary
    one_token = 2.0 * shape.layers * shape.kv_groups * shape.head_width
    part = shape.layers * layer.q / 2 * number_bytes
    return DecodeBytes(weights * number_bytes, part, part, one_token * context * batch * number_bytes)


def decode_speedup(
    read: DecodeBytes, batch: int, share: float, *, idle: float, skipped: Collection[Skipped] = NORM_ROUTER
) -> float:
    """Return the best possible ratio, dense over sparse, of a decoding step that waits for memory alone.

    By query head `idle` is `group_use(...)[0]` or `idle_share`: with 4 heads in a group nearly nothing, however small
    r is. By KV group it is 1 - r.

    Args:
        read: What a dense step reads.
        batch: B; rows of the projections are read for the union of the batch's heads, keys and values for each.
        share: r, in (0, 1].
        idle: Part of the KV groups that a token does not use.
        skipped: Projections of which only the rows of used heads are read: ``o``, ``q``.
    """
    check_share(share)
    unread = 1.0 - union_share(share, batch)
    rows = (read.o if "o" in skipped else 0.0) + (read.q if "q" in skipped else 0.0)
    total = read.weights + read.kv
    return total / (total - idle * read.kv - unread * rows)


def check_share(share: float) -> None:
    """Refuse a share of heads outside (0, 1]."""
    if not 0.0 < share <= 1.0:
        raise UserError("the active share lies above 0 and is at most 1", value=share)
