"""Layouts of heads: counts by hand, the published budgets, and shares that do not divide."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.heads.layout import Choice, HeadLayout, active_share, layout_for, read_share


def first(shared: int, active: int, heads: int, *, groups: int | None = None, choice: Choice = "free") -> HeadLayout:
    return HeadLayout(
        query_heads=heads, kv_groups=groups or heads, shared=tuple(range(shared)), active=active, choice=choice
    )


def test_the_published_llama_layout() -> None:
    """16 shared + 8 of 16 of 32 heads in 8 KV groups: 24 active; the routed groups are 4 to 7."""
    layout = first(16, 8, 32, groups=8)
    assert (layout.units, layout.choices, layout.active_heads, layout.active_share) == (16, 1, 24, 0.75)
    assert layout.routed_groups == (4, 5, 6, 7)
    assert layout.rows_per_group is None
    assert layout.describe() == "16 shared + 8 of 16 routed heads (24 of 32 heads active, 75.0 %)"


def test_per_group_choices() -> None:
    """One shared + 1 of 2 in each of 3 groups: 6 of 9; two whole groups shared + 2 of 4 in two: 12 of 16."""
    even = HeadLayout(query_heads=9, kv_groups=3, shared=(0, 3, 6), active=1, choice="per_group")
    assert (even.units, even.choices, even.active_heads, even.rows_per_group) == (2, 3, 6, 2)
    whole = first(8, 2, 16, groups=4, choice="per_group")
    assert (whole.units, whole.choices, whole.active_heads, whole.rows_per_group) == (4, 2, 12, None)
    assert "2 of 4 routed heads in each of 2 KV groups" in whole.describe()


def test_whole_groups_are_chosen() -> None:
    layout = first(4, 2, 16, groups=4, choice="groups")
    assert (layout.units, layout.choices, layout.active_heads) == (3, 1, 12)
    assert layout.describe() == "4 shared + 2 of 3 routed KV groups (12 of 16 heads active, 75.0 %)"


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"query_heads": 9, "kv_groups": 2, "shared": (), "active": 1}, "do not divide"),
        ({"query_heads": 8, "kv_groups": 8, "shared": (1, 0), "active": 1}, "ascending order"),
        ({"query_heads": 8, "kv_groups": 8, "shared": (0, 0), "active": 1}, "ascending order"),
        ({"query_heads": 8, "kv_groups": 8, "shared": (8,), "active": 1}, "ascending order"),
        ({"query_heads": 8, "kv_groups": 8, "shared": (0, 1), "active": 7}, "cannot take that many of 6 routed heads"),
        ({"query_heads": 8, "kv_groups": 8, "shared": (), "active": -1}, "cannot take that many"),
        ({"query_heads": 8, "kv_groups": 2, "shared": (0,), "active": 1, "choice": "groups"}, "cut a KV group"),
        ({"query_heads": 8, "kv_groups": 2, "shared": (0,), "active": 1, "choice": "per_group"}, "unevenly"),
        ({"query_heads": 8, "kv_groups": 2, "shared": (0, 4), "active": 4, "choice": "per_group"}, "that many of 3"),
    ],
)
def test_what_cannot_be_routed_is_refused(layout: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        HeadLayout(**layout)  # type: ignore[arg-type]


def test_active_share_of_vit_s_75() -> None:
    """3+0/3 x5, 6+0/6 x5, 3+6/12 x22, 4+12/24 x5: 323 of 429 heads, 131 of them shared; (10 + 16.5 + 10/3) / 37."""
    layouts = [first(3, 0, 3)] * 5 + [first(6, 0, 6)] * 5 + [first(3, 6, 12)] * 22 + [first(4, 12, 24)] * 5
    share = active_share(layouts)
    assert share.over_heads == pytest.approx(0.7529, abs=5e-5)
    assert share.over_layers == pytest.approx((10 + 16.5 + 10 / 3) / 37)
    assert share.shared_among_active == pytest.approx(0.406, abs=5e-4)
    assert (share.routing_layers, share.layers) == (27, 37)
    assert "75.3 % of all heads active (80.6 % as the mean over layers)" in share.describe()


def test_active_share_of_dit_xl_90() -> None:
    """8+0/8 x9, 16+0/16 x10, 16+3/24 x9: 403 of 448 heads."""
    share = active_share([first(8, 0, 8)] * 9 + [first(16, 0, 16)] * 10 + [first(16, 3, 24)] * 9)
    assert share.over_heads == pytest.approx(0.8996, abs=5e-5)
    assert share.shared_among_active == pytest.approx(0.933, abs=5e-4)
    assert share.routing_layers == 9


def test_no_layers_have_no_share() -> None:
    with pytest.raises(UserError, match="without layers"):
        active_share([])


@pytest.mark.parametrize(
    ("share", "shared", "choice", "active"),
    [
        (0.75, (), "per_group", 3),
        (0.75, (0, 4, 8, 12), "per_group", 2),
        (0.75, (0, 1, 2, 3), "groups", 2),
        (0.75, (0, 1), "free", 10),
        (1.0, (), "per_group", 4),
    ],
)
def test_layouts_from_a_share(share: float, shared: tuple[int, ...], choice: Choice, active: int) -> None:
    layout = layout_for(16, 4, active_share=share, shared=shared, choice=choice)
    assert layout.active == active
    assert layout.active_share == share


def test_two_decimals_name_a_share() -> None:
    """SmolLM2-135M: 0.67 is 2 of 3 in each group, 0.78 is 7 of 9."""
    assert layout_for(9, 3, active_share=0.67).active == 2
    assert layout_for(9, 3, active_share=0.78, choice="free").active == 7


def test_a_share_that_does_not_divide_names_its_neighbours() -> None:
    """Three groups of three: 3, 6 or 9 of 9 heads."""
    with pytest.raises(UserError, match="makes that share") as error:
        layout_for(9, 3, active_share=0.75)
    assert error.value.alternatives == ("0.667 (6 of 9)", "1.000 (9 of 9)")


def test_a_share_below_the_shared_heads_is_refused() -> None:
    """Half is shared: a share of a half would prune for good, and less is impossible."""
    for share in (0.25, 0.5):
        with pytest.raises(UserError, match="makes that share"):
            layout_for(8, 8, active_share=share, shared=(0, 1, 2, 3), choice="free")


@pytest.mark.parametrize("share", [0.0, -0.5, 1.01, float("nan")])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(UserError, match="above 0"):
        layout_for(8, 8, active_share=share)


@given(st.integers(1, 8), st.integers(1, 8), st.data())
def test_every_share_that_exists_is_found(groups: int, each: int, data: st.DataObject) -> None:
    """Every layout comes back from its share, given as a fraction."""
    choice: Choice = data.draw(st.sampled_from(["free", "per_group", "groups"]))
    empty = HeadLayout(query_heads=groups * each, kv_groups=groups, shared=(), active=0, choice=choice)
    active = data.draw(st.integers(1, empty.units))
    wanted = HeadLayout(query_heads=groups * each, kv_groups=groups, shared=(), active=active, choice=choice)
    assert layout_for(groups * each, groups, active_share=wanted.active_share, choice=choice) == wanted


def test_shares_as_people_write_them() -> None:
    assert [read_share(text) for text in ("0.75", "75%", " 75 % ", "3/4", "1")] == [0.75, 0.75, 0.75, 0.75, 1.0]
    for text in ("", "all", "0", "-1/2", "1/0", "75", "nan", "inf", "120%"):
        with pytest.raises(UserError, match="part of all heads"):
            read_share(text)
