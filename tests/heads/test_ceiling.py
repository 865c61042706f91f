"""The bounds against both tables of the specification, digit by digit, and against counting by hand."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.heads.ceiling import (
    CORE,
    LEARNED_ROUTER,
    NORM_ROUTER,
    DecoderShape,
    Skipped,
    decode_bytes,
    decode_flops,
    decode_speedup,
    group_use,
    idle_share,
    layer_ideal,
    prefill_flops,
    prefill_speedup,
    union_share,
)
from strop.heads.layout import HeadLayout

LLAMA3_8B = DecoderShape(
    width=4096, layers=32, query_heads=32, kv_groups=8, head_width=128, mlp_width=14336, vocabulary=128256
)
LLAMA2_7B = DecoderShape(
    width=4096, layers=32, query_heads=32, kv_groups=32, head_width=128, mlp_width=11008, vocabulary=32000
)
SHARES = (0.5, 0.75, 0.9)
K = 1024


def printed(value: float) -> str:
    """Round as the specification's tables were: to three digits, then to two, so that 1.0748 is 1.08 there."""
    thousandths = Decimal(value).quantize(Decimal("0.001"), ROUND_HALF_UP)
    return str(thousandths.quantize(Decimal("0.01"), ROUND_HALF_UP))


def speedups(tokens: int, skipped: tuple[Skipped, ...], rate: float = 1.0) -> list[str]:
    return [
        printed(prefill_speedup(LLAMA3_8B, tokens, share, skipped=skipped, attention_rate=rate)) for share in SHARES
    ]


def test_parts_of_a_layer() -> None:
    """Llama-3-8B in MFLOP: q and o 2 * 4096^2 = 33.6, k+v 4 * 4096 * 1024 = 16.8, MLP 6 * 4096 * 14336 = 352.3.

    Attention 2 * 4096 * n: 16.8 at 2k, 67.1 at 8k, 268.4 at 32k.
    """
    flops = prefill_flops(LLAMA3_8B, 2 * K)
    parts = (flops.q, flops.o, flops.kv, flops.mlp, flops.attention)
    assert [round(part / 1e6, 1) for part in parts] == [33.6, 33.6, 16.8, 352.3, 16.8]
    assert [round(prefill_flops(LLAMA3_8B, n * K).attention / 1e6, 1) for n in (8, 32)] == [67.1, 268.4]
    assert flops.total == sum(parts)


@pytest.mark.parametrize(
    ("tokens", "share", "core", "norm", "learned"),
    [
        (2 * K, "3.7", "1.02 1.01 1.00", "1.06 1.03 1.01", "1.10 1.05 1.02"),
        (8 * K, "13.3", "1.07 1.03 1.01", "1.11 1.05 1.02", "1.15 1.07 1.03"),
        (32 * K, "38.1", "1.24 1.11 1.04", "1.27 1.12 1.05", "1.31 1.14 1.05"),
        (128 * K, "71.1", "1.55 1.22 1.08", "1.58 1.22 1.08", "1.61 1.23 1.08"),
    ],
)
def test_prefill_table(tokens: int, share: str, core: str, norm: str, learned: str) -> None:
    """The table of prefill, every figure. By hand at 8k, r = .5, core: 503.3 / (503.3 - 33.6) = 1.0714."""
    assert f"{100 * prefill_flops(LLAMA3_8B, tokens).attention_share:.1f}" == share
    assert speedups(tokens, CORE) == core.split()
    assert speedups(tokens, NORM_ROUTER) == norm.split()
    assert speedups(tokens, LEARNED_ROUTER) == learned.split()


def test_slow_attention_weighs_more() -> None:
    """Attention at 60 % of the matrix products' rate, with o_proj: 1.15, 1.07, 1.03 at 8k; 1.37, 1.16, 1.06 at 32k."""
    assert speedups(8 * K, NORM_ROUTER, 0.6) == ["1.15", "1.07", "1.03"]
    assert speedups(32 * K, NORM_ROUTER, 0.6) == ["1.37", "1.16", "1.06"]


def decode(tokens: int, batch: int, share: float, idle: float, shape: DecoderShape = LLAMA3_8B) -> str:
    return printed(decode_speedup(decode_bytes(shape, tokens, batch), batch, share, idle=idle))


@pytest.mark.parametrize(
    ("tokens", "kv", "half", "three_quarters"),
    [
        (2 * K, "2 13 36", "1.04 1.01 1.02", "1.02 1.00 1.00"),
        (8 * K, "7 36 70", "1.04 1.02 1.04", "1.02 1.00 1.00"),
        (32 * K, "22 70 90", "1.04 1.04 1.05", "1.02 1.00 1.00"),
    ],
)
def test_decode_table_by_query_head(tokens: int, kv: str, half: str, three_quarters: str) -> None:
    """The table of decoding, its columns of bytes and of query routing.

    By hand at 2k, B = 1, 16 of 32: 15.008 + 0.268 GB; a group is idle for C(28, 16) / C(32, 16) = 5.06 % of tokens,
    which saves 0.014, half of o_proj 0.537: 15.276 / 14.726 = 1.037.
    """
    shares = [f"{100 * decode_bytes(LLAMA3_8B, tokens, batch).kv_share:.0f}" for batch in (1, 8, 32)]
    assert shares == kv.split()
    half_idle, most_idle = group_use(32, 16, 4)[0], group_use(32, 24, 4)[0]
    assert [decode(tokens, batch, 0.5, half_idle) for batch in (1, 8, 32)] == half.split()
    assert [decode(tokens, batch, 0.75, most_idle) for batch in (1, 8, 32)] == three_quarters.split()


@pytest.mark.parametrize(
    ("tokens", "half", "three_quarters", "nine_tenths"),
    [
        (2 * K, "1.05 1.07 1.22", "1.02 1.03 1.10", "1.01 1.01 1.04"),
        (8 * K, "1.07 1.22 1.53", "1.04 1.10 1.21", "1.01 1.04 1.08"),
        (32 * K, "1.16 1.53 1.82", "1.08 1.21 1.29", "1.03 1.08 1.10"),
    ],
)
def test_decode_table_by_group(tokens: int, half: str, three_quarters: str, nine_tenths: str) -> None:
    """The table of decoding, its column of KV-group routing."""
    for share, expected in zip(SHARES, (half, three_quarters, nine_tenths), strict=True):
        assert [decode(tokens, batch, share, 1 - share) for batch in (1, 8, 32)] == expected.split()


def test_decode_with_a_key_for_every_query_head() -> None:
    """Llama-2-7B at 8k: B 1 1.18 / 1.08 / 1.03, B 8 1.57 / 1.22 / 1.08, B 32 1.84 / 1.30 / 1.10; 512 KiB a token."""
    assert decode_bytes(LLAMA2_7B, 1, 1).kv == 512 * K
    expected = {1: "1.18 1.08 1.03", 8: "1.57 1.22 1.08", 32: "1.84 1.30 1.10"}
    for batch, line in expected.items():
        assert [decode(8 * K, batch, share, 1 - share, LLAMA2_7B) for share in SHARES] == line.split()


def test_published_layout_gains_nothing_at_decode() -> None:
    """16 shared heads and 8 of 16: 3.8 % of the routed groups are idle, 1.9 % of all; 1.00 to 1.02 everywhere."""
    layout = HeadLayout(query_heads=32, kv_groups=8, shared=tuple(range(16)), active=8)
    assert idle_share(layout) == pytest.approx(0.5 * 495 / 12870)
    found = {
        decode(tokens * K, batch, layout.active_share, idle_share(layout))
        for tokens in (2, 8, 32)
        for batch in (1, 8, 32)
    }
    assert found <= {"1.00", "1.01", "1.02"}


def test_bytes_of_llama3() -> None:
    """15.0 GB without the input table, 128 KiB of keys and values a token."""
    read = decode_bytes(LLAMA3_8B, 1, 1)
    assert (round(read.weights / 1e9, 1), read.kv) == (15.0, 128 * K)


def test_idle_groups() -> None:
    """C(28, k) / C(32, k): 5.1 % at 16, 0.2 % at 24, 0 at 29. 8 of 16 in a group of 4: 4, 25, 43, 25, 4 %."""
    assert [f"{100 * group_use(32, k, 4)[0]:.1f}" for k in (16, 24, 29)] == ["5.1", "0.2", "0.0"]
    assert [round(100 * p) for p in group_use(16, 8, 4)] == [4, 25, 43, 25, 4]


@given(st.integers(1, 8), st.data())
def test_group_use_is_a_count_of_sets(routed: int, data: st.DataObject) -> None:
    members, active = data.draw(st.integers(0, routed)), data.draw(st.integers(0, routed))
    sets = [sum(head < members for head in chosen) for chosen in combinations(range(routed), active)]
    expected = [sets.count(used) / len(sets) for used in range(members + 1)]
    assert list(group_use(routed, active, members)) == pytest.approx(expected)


def test_idle_share_by_choice() -> None:
    """8 groups of 4: free 24 of 32 0.2 %; 2 in every group never; 4 of 8 groups half; one shared and 3 of 7 4 / 8."""
    free = HeadLayout(query_heads=32, kv_groups=8, shared=(), active=24)
    inside = HeadLayout(query_heads=32, kv_groups=8, shared=(), active=2, choice="per_group")
    groups = HeadLayout(query_heads=32, kv_groups=8, shared=(), active=4, choice="groups")
    mixed = HeadLayout(query_heads=32, kv_groups=8, shared=(0, 1, 2, 3), active=3, choice="groups")
    pruned = HeadLayout(query_heads=8, kv_groups=2, shared=(0, 1, 2, 3), active=0, choice="per_group")
    assert idle_share(free) == pytest.approx(0.00195, abs=1e-5)
    assert [idle_share(layout) for layout in (inside, groups, mixed, pruned)] == pytest.approx([0.0, 0.5, 0.5, 0.5])


@pytest.mark.parametrize(
    ("group", "tokens_over_width", "expected"),
    [
        (1, 2.0, "1.20 1.50 2.00"),
        (4, 2.0, "1.29 1.80 3.00"),
        (1, 0.5, "1.16 1.38 1.71"),  # 4.5 / 3.875 = 1.161; 4.5 / 3.25 = 1.385; 4.5 / 2.625 = 1.714
        (4, 0.5, "1.26 1.71 2.67"),
        (4, 1.0, "1.27 1.75 2.80"),
    ],
)
def test_layer_ideal(group: int, tokens_over_width: float, expected: str) -> None:
    """The ideals of the measured layers. By hand, g = 4, T = 2 D, r = .25: (2 + .5 + 2) / (.5 + .5 + .5) = 3."""
    found = [layer_ideal(r, heads_per_group=group, tokens_over_width=tokens_over_width) for r in (0.75, 0.5, 0.25)]
    assert [f"{value:.2f}" for value in found] == expected.split()


def test_layer_ideal_of_long_contexts_and_blocks() -> None:
    """T = 8 D, g = 1: 12 / 7 = 1.71, 12 / 4.5 = 2.67. With an MLP, g = 4: T = 2 D 1.09, 1.19, 1.32; T = 8 D 1.37.

    With dense queries, g = 1, T = 2 D, r = .25: 6 / (1 + .25 + 2 + .5) = 1.6.
    """
    long = [layer_ideal(r, heads_per_group=1, tokens_over_width=8.0) for r in (0.5, 0.25)]
    assert [f"{value:.2f}" for value in long] == ["1.71", "2.67"]
    block = [layer_ideal(r, heads_per_group=4, tokens_over_width=2.0, mlp=True) for r in (0.75, 0.5, 0.25)]
    assert [f"{value:.2f}" for value in block] == ["1.09", "1.19", "1.32"]
    assert f"{layer_ideal(0.5, heads_per_group=4, tokens_over_width=8.0, mlp=True):.2f}" == "1.37"
    assert layer_ideal(0.25, heads_per_group=1, tokens_over_width=2.0, skipped=NORM_ROUTER) == 1.6


def test_layer_ideal_is_the_prefill_bound_without_an_mlp() -> None:
    """D = 1024, 16 heads of 64, 4 groups, T = 2048: both formulas are the same count."""
    shape = DecoderShape(width=1024, layers=1, query_heads=16, kv_groups=4, head_width=64, mlp_width=0)
    for skipped in (CORE, NORM_ROUTER, LEARNED_ROUTER):
        ideal = layer_ideal(0.25, heads_per_group=4, tokens_over_width=2.0, skipped=skipped)
        assert prefill_speedup(shape, 2048, 0.25, skipped=skipped) == pytest.approx(ideal)


@given(st.floats(0.01, 1.0), st.integers(1, 10**7))
def test_no_bound_exceeds_one_over_the_share(share: float, tokens: int) -> None:
    read = decode_bytes(LLAMA3_8B, tokens, 1)
    for bound in (prefill_speedup(LLAMA3_8B, tokens, share), decode_speedup(read, 1, share, idle=1 - share)):
        assert 1.0 <= bound <= 1 / share + 1e-9
    assert prefill_speedup(LLAMA3_8B, tokens, share, output_table=True) <= prefill_speedup(LLAMA3_8B, tokens, share)


def test_limits() -> None:
    """The union of 4 tokens at half is 15 / 16; a new token sees all keys, an old one half of them on average."""
    assert union_share(0.5, 4) == 0.9375
    assert decode_flops(LLAMA3_8B, K).attention == 2 * prefill_flops(LLAMA3_8B, K).attention
    assert prefill_speedup(LLAMA3_8B, 10**9, 0.25) == pytest.approx(4.0, abs=0.01)


def test_shape_of_a_config() -> None:
    """Llama-3-8B's numbers by their names in config.json; without KV heads every query head has its own."""
    config = {
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 128256,
    }
    assert DecoderShape.of(config) == LLAMA3_8B
    assert DecoderShape.of({**config, "num_key_value_heads": None}).kv_groups == 32


@pytest.mark.parametrize("share", [0.0, -0.5, 1.01, float("nan")])
def test_shares_outside_are_refused(share: float) -> None:
    with pytest.raises(UserError, match="active share"):
        layer_ideal(share, heads_per_group=1, tokens_over_width=1.0)


def test_impossible_groups_are_refused() -> None:
    with pytest.raises(UserError, match="among those that compete"):
        group_use(4, 5, 2)


SMOLLM2 = DecoderShape(width=576, layers=30, query_heads=9, kv_groups=3, head_width=64, mlp_width=1536)
PAGE = Path(__file__).parents[2] / "docs" / "heads.md"


@pytest.mark.parametrize(
    ("shape", "tokens"),
    [*((LLAMA3_8B, n * K) for n in (2, 8, 32, 128)), (SMOLLM2, 512), (SMOLLM2, 2 * K), (SMOLLM2, 8 * K)],
)
def test_page_of_prefill(shape: DecoderShape, tokens: int) -> None:
    columns = [
        " / ".join(f"{prefill_speedup(shape, tokens, share, skipped=skipped):.2f}" for share in (0.25, *SHARES))
        for skipped in (CORE, NORM_ROUTER, LEARNED_ROUTER)
    ]
    share = f"{100 * prefill_flops(shape, tokens).attention_share:.1f} %"
    assert f"| {tokens:,} | {share} | {' | '.join(columns)} |" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(("tokens", "batch"), [(n * K, batch) for n in (2, 8, 32) for batch in (1, 32)])
def test_page_of_decoding(tokens: int, batch: int) -> None:
    read = decode_bytes(LLAMA3_8B, tokens, batch)
    shares = (0.25, 0.5, 0.75)
    heads = [decode_speedup(read, batch, r, idle=group_use(32, round(32 * r), 4)[0]) for r in shares]
    groups = [decode_speedup(read, batch, r, idle=1 - r) for r in shares]
    columns = (" / ".join(f"{bound:.2f}" for bound in bounds) for bounds in (heads, groups))
    assert f"| {batch} | {100 * read.kv_share:.0f} % | {' | '.join(columns)} |" in PAGE.read_text(encoding="utf-8")
