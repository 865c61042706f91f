"""Events fold into marks; an undo takes back the last standing one and nothing is lost."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from strop.web.blinding import Response
from strop.web.marks import Choice, Event, Kind, Mark, choice_of, fold, standing, verdict_of


def _event(seq: int, kind: Kind, body: dict[str, Any], *, key: str = "1", left: Response = "first") -> Event:
    return Event(seq, "anna", key, kind, body, left, f"2026-01-01T00:00:{seq:02d}Z")


def test_the_last_word_counts_in_terms_of_the_responses() -> None:
    """Left is the second response when that one stands on the left."""
    marks = fold(
        [
            _event(1, "choice", {"choice": "left", "seconds": 4.5}, left="second"),
            _event(2, "principle", {"principle": "safety", "choice": "right"}, left="second"),
            _event(3, "principle", {"principle": "empathy", "choice": "tie"}, left="second"),
            _event(4, "note", {"text": "hm"}, left="second"),
            _event(5, "principle", {"principle": "empathy", "choice": None}, left="second"),
        ]
    )
    mark = marks["1"]
    assert (mark.verdict, mark.seconds, mark.note) == ("second", 4.5, "hm")
    assert mark.principles == {"safety": "first"}


def test_undo_goes_back_step_by_step() -> None:
    """Choices left, right; the first undo gives left again, the second gives nothing, the note of pair 2 stays."""
    events = [
        _event(1, "choice", {"choice": "left"}),
        _event(2, "note", {"text": "kept"}, key="2"),
        _event(3, "choice", {"choice": "right"}),
        _event(4, "undo", {"undoes": 3}),
    ]
    assert fold(events)["1"].verdict == "first"
    events += [_event(5, "undo", {"undoes": 2}, key="2"), _event(6, "undo", {"undoes": 1})]
    assert fold(events) == {}
    assert standing(events) == []
    again = _event(7, "choice", {"choice": "cannot"})
    assert fold([*events, again])["1"] == Mark(verdict="cannot", at=again.at)


_BODIES = st.one_of(
    st.sampled_from(["left", "right", "tie", "cannot"]).map(lambda choice: ("choice", {"choice": choice})),
    st.sampled_from(["left", "right", "tie", None]).map(
        lambda choice: ("principle", {"principle": "safety", "choice": choice})
    ),
    st.text(max_size=5).map(lambda text: ("note", {"text": text})),
)


@given(
    st.lists(st.tuples(st.sampled_from("12"), _BODIES), max_size=8),
    st.tuples(st.sampled_from("12"), _BODIES),
)
def test_undo_is_the_inverse_of_the_last_event(before: list[tuple[str, Any]], last: tuple[str, Any]) -> None:
    events = [
        _event(number, kind, body, key=key) for number, (key, (kind, body)) in enumerate([*before, last], start=1)
    ]
    undo = _event(len(events) + 1, "undo", {"undoes": len(events)}, key=last[0])
    assert fold([*events, undo]) == fold(events[:-1])


@given(st.sampled_from(["left", "right", "tie", "cannot"]), st.sampled_from(["first", "second"]))
def test_choices_and_verdicts_are_two_names_of_one_thing(choice: Choice, left: Response) -> None:
    assert choice_of(verdict_of(choice, left), left) == choice
