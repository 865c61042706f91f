"""The dict `moh` of a config: read as it was written, and refused where it says nothing that can be built."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.heads.layout import HeadLayout
from strop.heads.modeling.settings import VERSION, MoHSettings, head_counts

LAYOUT = HeadLayout(query_heads=8, kv_groups=2, shared=(0, 4), active=2, choice="per_group")


def config(moh: Any, **changed: Any) -> SimpleNamespace:
    counts = {"num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2, "model_type": "moh_llama"}
    return SimpleNamespace(moh=moh, **{**counts, **changed})


def layouts() -> st.SearchStrategy[HeadLayout]:
    """Layouts of eight heads in two KV groups, by every choice."""
    pruned = st.builds(_layout, st.just("free"), st.sets(st.integers(0, 7)), st.just(0))
    free = st.builds(_layout, st.just("free"), st.sets(st.integers(0, 7), max_size=4), st.integers(0, 4))
    grouped = st.builds(_layout, st.just("per_group"), st.sampled_from([(), (0, 4), (1, 2, 4, 7)]), st.integers(0, 2))
    groups = st.builds(_layout, st.just("groups"), st.sampled_from([(), (4, 5, 6, 7)]), st.integers(0, 1))
    return pruned | free | grouped | groups


def _layout(choice: Any, shared: Any, active: int) -> HeadLayout:
    return HeadLayout(query_heads=8, kv_groups=2, shared=tuple(sorted(shared)), active=active, choice=choice)


@given(
    first=layouts(),
    second=layouts(),
    router=st.sampled_from(["learned", "query_norm"]),
    gates=st.sampled_from(["released", "paper"]),
    straight_through=st.sampled_from(["exact", "selected", "off"]),
    balance=st.floats(0.0, 10.0),
)
def test_what_is_written_is_read(first: HeadLayout, second: HeadLayout, **named: Any) -> None:
    settings = MoHSettings(layers=(first, second), source="ab12", **named)
    assert MoHSettings.from_config(config(settings.to_dict())) == settings


def test_a_config_keeps_only_plain_values() -> None:
    """Two shared heads of eight and two of three routed ones in each of two groups: six heads."""
    told = MoHSettings(layers=(LAYOUT,)).to_dict()
    assert told["layers"] == [{"shared": [0, 4], "active": 2, "choice": "per_group"}]
    assert told["version"] == VERSION
    assert LAYOUT.active_heads == 6


def test_layers_that_route_are_those_in_which_tokens_choose() -> None:
    """All active and none active are no choice."""
    layers = (LAYOUT, replace(LAYOUT, active=3), replace(LAYOUT, active=0), replace(LAYOUT, active=1))
    assert MoHSettings(layers=layers).routing_layers == 2


def test_missing_parts_have_their_usual_values() -> None:
    row = {"shared": [], "active": 4, "choice": "free"}
    settings = MoHSettings.from_config(config({"layers": [row, row]}))
    assert (settings.router, settings.gates, settings.backend, settings.balance) == (
        "learned",
        "released",
        "auto",
        0.01,
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"router": "oracle"}, "router"),
        ({"gates": "soft"}, "style of gates"),
        ({"straight_through": "yes"}, "straight-through"),
        ({"backend": "cuda"}, "attention backend"),
        ({"balance": -0.1}, "load-balance"),
        ({"balance": float("nan")}, "load-balance"),
    ],
)
def test_unknown_values_are_refused(changed: dict[str, Any], message: str) -> None:
    told = {**MoHSettings(layers=(LAYOUT, LAYOUT)).to_dict(), **changed}
    with pytest.raises(UserError, match=message):
        MoHSettings.from_config(config(told))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"heads": 4}, "parts that are not known"),
        ({"version": VERSION + 1}, "another version"),
        ({"layers": []}, "one entry a layer"),
        ({"layers": None}, "one entry a layer"),
        ({"layers": "ab"}, "does not say what a layer"),
        ({"layers": [{"shared": [0]}, {"shared": [0]}]}, "does not say what a layer"),
        ({"layers": [{"shared": [], "active": "four", "choice": "free"}] * 2}, "does not say what a layer"),
        ({"layers": [{"shared": [], "active": 4, "choice": "by luck"}] * 2}, "cannot choose among"),
        ({"layers": [{"shared": [], "active": 9, "choice": "free"}] * 2}, "cannot take that many"),
        ({"layers": [{"shared": [0], "active": 1, "choice": "groups"}] * 2}, "cut a KV group"),
        ({"layers": [{"shared": [8], "active": 1, "choice": "free"}] * 2}, "shared heads must be"),
    ],
)
def test_hostile_dicts_are_refused(changed: dict[str, Any], message: str) -> None:
    told = {**MoHSettings(layers=(LAYOUT, LAYOUT)).to_dict(), **changed}
    with pytest.raises(UserError, match=message):
        MoHSettings.from_config(config(told))


@pytest.mark.parametrize("moh", [None, {}, [], "moh"])
def test_a_dense_config_says_nothing_of_its_heads(moh: Any) -> None:
    with pytest.raises(UserError, match="says nothing of its heads"):
        MoHSettings.from_config(config(moh))


def test_without_grouped_queries_every_head_has_its_own_keys() -> None:
    assert head_counts(SimpleNamespace(num_attention_heads=8, num_key_value_heads=None)) == (8, 8)
    assert head_counts(SimpleNamespace(num_attention_heads=8)) == (8, 8)
    assert head_counts(SimpleNamespace(num_attention_heads=8, num_key_value_heads=2)) == (8, 2)
