"""N-gram overlap by hand, as a property, and on hostile text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UserError
from strop.evaluation.contamination import contamination, folded_words

ITEM = "A 24-year-old woman can\u2019t sleep since her mother died; which drug is given first?"


def test_by_hand() -> None:
    """The text holds the item's first eight words in a row, then its first nine: one run of eight, then two."""
    text = "we met a 24 YEAR old woman, can't sleep since"
    assert folded_words(ITEM)[:9] == ["a", "24", "year", "old", "woman", "cant", "sleep", "since", "her"]
    found = contamination([("t0", "nothing"), ("t1", text + " then")], [("medqa/1", ITEM)])
    assert [(hit.text, hit.item, hit.runs) for hit in found.overlaps] == [("t1", "medqa/1", 1)]
    found = contamination([("t0", "nothing"), ("t1", text + " her mum")], [("medqa/1", ITEM)])
    assert [(hit.text, hit.item, hit.runs) for hit in found.overlaps] == [("t1", "medqa/1", 2)]
    assert (found.texts_hit, found.items_hit) == (("t1",), ("medqa/1",))
    assert (found.texts, found.items, found.short_texts, found.short_items) == (2, 1, 1, 0)


def test_what_is_told_holds_no_text() -> None:
    found = contamination([("t", ITEM)], [("medqa/1", ITEM)])
    told = json.dumps(found.to_row())
    assert found.overlaps[0].runs == len(folded_words(ITEM)) - 7
    assert not any(word in told for word in ("woman", "mother", "drug"))
    assert len(found.overlaps[0].hash) == 16


def test_templates_are_no_hits() -> None:
    """Eleven items ask in the same nine words; the twelfth's words are its own."""
    asks = "which of the following is the most likely diagnosis"
    items = [(n, f"{asks} {n}") for n in range(11)] + [(11, "one two three four five six seven eight nine")]
    found = contamination([("t", f"{asks}? one two three four five six seven eight")], items)
    assert found.templates == 2
    assert found.items_hit == (11,)
    assert contamination([("t", asks)], items, template_items=11).items_hit == tuple(range(11))


def test_short_items_are_counted() -> None:
    found = contamination([("t", "stress")], [("d/1", "Am I stressed?"), ("d/2", "")])
    assert (found.short_items, found.short_texts, found.overlaps) == (2, 1, ())


def test_ids_name_one_item() -> None:
    with pytest.raises(UserError, match="share an id"):
        contamination([], [(1, "a"), (1, "b")])
    assert contamination([], [(1, "a"), (1, "a")]).items == 1
    with pytest.raises(UserError, match="at least two"):
        contamination([], [], words=1)


WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=12)


@given(st.lists(WORDS, max_size=4), st.lists(WORDS, max_size=4))
def test_overlap_is_what_sets_of_runs_say(texts: list[list[str]], items: list[list[str]]) -> None:
    """The same answer as sets of tuples, over every pair of text and item."""

    def runs(words: list[str]) -> set[tuple[str, ...]]:
        return {tuple(words[at : at + 3]) for at in range(len(words) - 2)}

    found = contamination(
        [(n, " ".join(words)) for n, words in enumerate(texts)],
        [(f"i{n}", " ".join(words)) for n, words in enumerate(items)],
        words=3,
    )
    expected = {
        (t, f"i{i}"): len(runs(text) & runs(item))
        for t, text in enumerate(texts)
        for i, item in enumerate(items)
        if runs(text) & runs(item)
    }
    assert {(hit.text, hit.item): hit.runs for hit in found.overlaps} == expected


@given(st.text(max_size=200))
def test_any_text_overlaps_itself_or_is_short(text: str) -> None:
    found = contamination([("t", text)], [("i", text)], words=2)
    assert found.short_items or found.items_hit == ("i",)
