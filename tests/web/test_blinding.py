"""Sides and order: the same for the same annotator, different for another, and without a trace of the label."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tests.web.served_page import write_pairs

from strop.judging.pairs import HumanPair, read_pairs
from strop.web.blinding import blinded_items, labelled, pair_key, set_hash, texts_of


def _pair(identifier: int | str, better: str, worse: str) -> HumanPair:
    return HumanPair(identifier, "a prompt", better, worse, "group", "source", None, True, False)


def _swapped(pair: HumanPair) -> HumanPair:
    return replace(pair, better=pair.worse, worse=pair.better)


texts = st.text(min_size=1, max_size=8)
pairs_of = st.lists(st.tuples(texts, texts).filter(lambda both: both[0] != both[1]), min_size=1, max_size=12)


@given(pairs_of, st.data())
def test_neither_labels_nor_the_order_of_the_file_change_what_is_shown(
    sides: list[tuple[str, str]], data: st.DataObject
) -> None:
    pairs = [_pair(number, *both) for number, both in enumerate(sides)]
    relabelled = [_swapped(pair) if data.draw(st.booleans()) else pair for pair in pairs]
    shuffled = data.draw(st.permutations(relabelled))
    assert set_hash(pairs) == set_hash(shuffled)
    assert blinded_items(pairs, "anna") == blinded_items(shuffled, "anna")


@given(pairs_of)
def test_every_pair_is_shown_once_with_both_its_texts(sides: list[tuple[str, str]]) -> None:
    pairs = [_pair(number, *both) for number, both in enumerate(sides)]
    items = blinded_items(pairs, "anna")
    assert sorted(item.key for item in items) == sorted(pair_key(pair.id) for pair in pairs)
    by_key = {pair_key(pair.id): pair for pair in pairs}
    for item in items:
        first, second = texts_of(by_key[item.key])
        assert (item.left, item.right) == ((first, second) if item.shown_left == "first" else (second, first))


def test_the_label_is_left_half_the_time_and_annotators_differ(tmp_path: Path) -> None:
    """400 coins: the better response on the left within 200 +- 50, five standard deviations."""
    pairs = read_pairs(write_pairs(tmp_path, 400))
    labels = {pair_key(pair.id): labelled(pair) for pair in pairs}
    items = {name: blinded_items(pairs, name) for name in ("anna", "ben")}
    for shown in items.values():
        assert abs(sum(item.shown_left == labels[item.key] for item in shown) - 200) < 50
    assert [item.key for item in items["anna"]] != [item.key for item in items["ben"]]
    sides = {name: {item.key: item.shown_left for item in shown} for name, shown in items.items()}
    assert abs(sum(sides["anna"][key] == sides["ben"][key] for key in labels) - 200) < 50


def test_the_order_is_pinned() -> None:
    """A new version of strop or Python must not move what an annotator has begun."""
    pairs = [_pair(number, f"good {number}", f"bad {number}") for number in range(6)]
    items = blinded_items(pairs, "anna")
    assert [(item.key, item.shown_left) for item in items] == [
        ("2", "first"),
        ("1", "second"),
        ("5", "first"),
        ("0", "first"),
        ("3", "second"),
        ("4", "second"),
    ]


def test_other_texts_and_other_ids_are_another_set() -> None:
    pairs = [_pair(1, "a", "b"), _pair(2, "c", "d")]
    others = [
        [_pair("1", "a", "b"), _pair(2, "c", "d")],
        [_pair(1, "a", "b!"), _pair(2, "c", "d")],
        [_pair(1, "a", "b")],
        [replace(_pair(1, "a", "b"), prompt="another prompt"), _pair(2, "c", "d")],
    ]
    assert set_hash(pairs) not in {set_hash(other) for other in others}
