"""The ``moh`` part of a vision model's config: there and back, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.heads.layout import HeadLayout
from strop.heads.vision.budgets import first_shared
from strop.heads.vision.settings import VisionSettings


@st.composite
def layouts(draw: st.DrawFn) -> HeadLayout:
    heads = draw(st.integers(1, 8))
    shared = draw(st.integers(0, heads))
    return first_shared(heads, shared=shared, active=draw(st.integers(0, heads - shared)))


@given(
    st.lists(layouts(), min_size=1, max_size=5), st.booleans(), st.sampled_from(["released", "paper"]), st.floats(0, 1)
)
def test_there_and_back(layers: list[HeadLayout], weigh_all: bool, gates: Any, balance: float) -> None:
    settings = VisionSettings(layers=tuple(layers), gates=gates, weigh_all=weigh_all, balance=balance)
    assert VisionSettings.from_dict(settings.to_dict(), heads=99, layers=len(layers)) == settings


def test_nothing_said_is_plain_attention() -> None:
    settings = VisionSettings.from_dict(None, heads=4, layers=2)
    assert settings.layers == (first_shared(4, shared=4, active=0),) * 2
    assert not settings.weigh_all
    assert settings.routing_layers == 0


ROW = {"shared": [0], "active": 2}


@pytest.mark.parametrize(
    ("moh", "message"),
    [
        ({"layers": [ROW]}, "one entry a layer"),
        ({"layers": [ROW, ROW], "routing": 1}, "parts that are not known"),
        ({"layers": [ROW, ROW], "router": "query_norm"}, "router is learned"),
        ({"layers": [ROW, ROW], "gates": "mine"}, "no such gates"),
        ({"layers": [ROW, ROW], "version": 2}, "another version"),
        ({"layers": [ROW, ROW], "balance": -1}, "0 or more"),
        ({"layers": [ROW, ROW], "balance": float("nan")}, "0 or more"),
        ({"layers": [ROW, {"shared": [0], "active": 4}]}, "cannot take that many"),
        ({"layers": [ROW, {"shared": [4], "active": 1}]}, "different heads of the layer"),
    ],
)
def test_refused(moh: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        VisionSettings.from_dict(moh, heads=4, layers=2)


def test_grouped_keys_are_refused() -> None:
    with pytest.raises(UserError, match="keys of their own"):
        VisionSettings(layers=(HeadLayout(query_heads=4, kv_groups=2, shared=(), active=2),))
