"""Marks of an annotator as a list of events that only grows: what was said, and what was taken back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from strop.web.blinding import OTHER, Response

Side = Literal["left", "right"]
Choice = Literal["left", "right", "tie", "cannot"]
Kind = Literal["choice", "principle", "note", "undo"]
Verdict = Literal["first", "second", "tie", "cannot"]
"""A choice in terms of the responses: which one is better, both alike, or "cannot judge"."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that an annotator did, as it is kept.

    Attributes:
        seq: Its number in the file; later events have larger ones.
        annotator: Who.
        key: The pair; see `strop.web.blinding.Item`.
        kind: What kind of thing.
        body: `choice` and `seconds`; `principle` and `choice`; `text`; or `undoes`, the number of another event.
        shown_left: Which response stood on the left.
        at: When, ISO 8601 in UTC.
    """

    seq: int
    annotator: str
    key: str
    kind: Kind
    body: Mapping[str, Any]
    shown_left: Response
    at: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Where an annotator stands on one pair.

    Attributes:
        verdict: The better response, `tie` or `cannot`; None while there is none.
        principles: By principle the better response, or `tie`; those without a mark are absent.
        note: The annotator's words.
        seconds: Time from the showing of the pair to the verdict; None where the page did not say.
        shown_left: Which response stood on the left at the last event.
        at: When the last event was.
    """

    verdict: Verdict | None = None
    principles: Mapping[str, Verdict] = field(default_factory=dict)
    note: str = ""
    seconds: float | None = None
    shown_left: Response = "first"
    at: str = ""


def verdict_of(choice: Choice, shown_left: Response) -> Verdict:
    """Return what a choice says about the responses when `shown_left` stands on the left."""
    if choice == "left":
        return shown_left
    return OTHER[shown_left] if choice == "right" else choice


def choice_of(verdict: Verdict, shown_left: Response) -> Choice:
    """Return the choice that says `verdict` when `shown_left` stands on the left."""
    if verdict in ("tie", "cannot"):
        return verdict
    return "left" if verdict == shown_left else "right"


def standing(events: Iterable[Event]) -> list[Event]:
    """Return the events of one annotator that were not taken back, in order, without the undoings themselves."""
    ordered = sorted(events, key=lambda event: event.seq)
    undone = {event.body["undoes"] for event in ordered if event.kind == "undo"}
    return [event for event in ordered if event.kind != "undo" and event.seq not in undone]


def fold(events: Iterable[Event]) -> dict[str, Mark]:
    """Return where one annotator stands on each pair that has a standing event, by the pair's key.

    The last choice, the last mark of each principle and the last note count. A principle's mark of None takes it away.

    Args:
        events: All events of one annotator, in any order.
    """
    marks: dict[str, Mark] = {}
    for event in standing(events):
        marks[event.key] = _after(marks.get(event.key, Mark()), event)
    return marks


def _after(mark: Mark, event: Event) -> Mark:
    mark = replace(mark, shown_left=event.shown_left, at=event.at)
    body = event.body
    if event.kind == "note":
        return replace(mark, note=body["text"])
    if event.kind == "choice":
        return replace(mark, verdict=verdict_of(body["choice"], event.shown_left), seconds=body.get("seconds"))
    principles = {name: verdict for name, verdict in mark.principles.items() if name != body["principle"]}
    if body["choice"] is not None:
        principles[body["principle"]] = verdict_of(body["choice"], event.shown_left)
    return replace(mark, principles=principles)
