"""Judges' replies: the exact value or the exact kind of failure for each of the corpus in ``replies/``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.judging.parsing import FAILURE_KINDS, ParseFailure, Ratings, parse_ratings, parse_verdict

REPLIES = Path(__file__).resolve().parent / "replies"
THREE = ("empathy", "clarity", "safety")


def cases(name: str) -> list[Any]:
    lines = (REPLIES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [pytest.param(row["reply"], row["expected"], id=f"{n}") for n, row in enumerate(map(json.loads, lines), 1)]


def as_json(outcome: object) -> object:
    if isinstance(outcome, ParseFailure):
        assert outcome.kind in FAILURE_KINDS
        return {"failure": outcome.kind}
    if isinstance(outcome, Ratings):
        return {key: as_json(value) for key, value in outcome.values.items()}
    return outcome


def one(reply: str) -> object:
    outcome = parse_ratings(reply, ["empathy"])
    return as_json(outcome.values["empathy"] if isinstance(outcome, Ratings) else outcome)


@pytest.mark.parametrize(("reply", "expected"), cases("one_criterion"))
def test_one_criterion(reply: str, expected: object) -> None:
    assert one(reply) == expected


@pytest.mark.parametrize(("reply", "expected"), cases("three_criteria"))
def test_three_criteria(reply: str, expected: object) -> None:
    assert as_json(parse_ratings(reply, THREE)) == expected


@pytest.mark.parametrize(("reply", "expected"), cases("verdicts"))
def test_verdict(reply: str, expected: object) -> None:
    assert as_json(parse_verdict(reply)) == expected


def test_the_corpus_is_large_enough() -> None:
    assert sum(len(cases(name)) for name in ("one_criterion", "three_criteria", "verdicts")) >= 250


HUGE = 1_000_000
LARGE = 100_000
GROWTHS = {
    "braces": "{",
    "quotes": '{"',
    "escapes": '\\"',
    "nesting": '{"a":',
    "stars": "*",
    "labels": "empathy: ",
    "verdicts": "Verdict: ",
    "digits": "1",
    "pipes": "| a",
    "fences": "----- begin A ",
    "sentences": "Response A is ",
    "thoughts": "<think>",
    "lists": "{[",
}


def _offers_nothing(piece: str, length: int) -> None:
    reply = '{"' + piece * (length // len(piece))
    started = time.process_time()
    assert isinstance(parse_verdict(reply), ParseFailure)
    assert isinstance(parse_ratings(reply, ["empathy"]), ParseFailure)
    assert time.process_time() - started < 10 * length / HUGE


@pytest.mark.parametrize("piece", GROWTHS.values(), ids=GROWTHS.keys())
def test_reading_takes_time_in_proportion_to_the_reply(piece: str) -> None:
    _offers_nothing(piece, LARGE)


@pytest.mark.slow
@pytest.mark.parametrize("piece", GROWTHS.values(), ids=GROWTHS.keys())
def test_a_reply_of_a_megabyte_takes_seconds(piece: str) -> None:
    _offers_nothing(piece, HUGE)


def test_a_verdict_behind_a_megabyte_of_prose_is_found() -> None:
    prose = "The reply listens and asks. " * (HUGE // 28)
    assert one(prose + "\nempathy: 4") == 4
    assert parse_verdict(prose + "\nVerdict: B") == "second"


# Words that hold neither a verdict nor the start of one, and marks of every kind that Markdown and JSON use.
PROSE = st.lists(
    st.sampled_from(
        [
            *(
                "The",
                "reply",
                "listens",
                "well,",
                "client",
                "feels",
                "heard.",
                "however",
                "(mostly)",
                "on",
                "balance;",
                "12",
            ),
            *("{", "}", "[", "]", "*", "#", '"', "`", "|", "<", ">", "&", "...", "—", "\u200b", "\u00e9", "😀", "\\"),
        ]
    ),
    max_size=12,
).map(" ".join)
WRAPS = st.sampled_from(
    ["{}", "```\n{}\n```", "```json\n{}\n```", "**{}**", "> {}", "  {}  ", "\t{}\n", "- {}", "<b>\n{}\n</b>"]
)
RATINGS = st.sampled_from(
    ["empathy: {}", "**Empathy**: {}/5", "Rating: {}", '{{"empathy": {}}}', '{{"rating": {},}}', "empathy = {}"]
)
VERDICTS = st.sampled_from(["Verdict: {}", "**Verdict:** {}", "[[{}]]", '{{"verdict": "{}"}}', "Winner: Response {}"])
NUMBERED = st.integers(1, 5)
SIDED = st.sampled_from([("A", "first"), ("B", "second")])


def _harmless(prose: str) -> bool:
    return prose.count("{") == prose.count("}") == 0 and '"' not in prose


def _keeps_its_value(before: str, after: str, wrap: str, form: str, rating: int) -> None:
    reply = f"{before}\n{wrap.replace('{}', form.format(rating))}\n{after}"
    assert one(reply) == rating, reply


def _keeps_its_verdict(before: str, after: str, wrap: str, form: str, side: tuple[str, str]) -> None:
    reply = f"{before}\n{wrap.replace('{}', form.format(side[0]))}\n{after}"
    assert parse_verdict(reply) == side[1], reply


def _never_offers(pieces: list[str]) -> None:
    text = "\n".join(pieces)
    assert isinstance(parse_ratings(text, THREE), ParseFailure), text
    assert isinstance(parse_verdict(text), ParseFailure), text


def _is_a_value_or_a_failure(text: str, start: int, length: int) -> None:
    broken = text[:start] + text[start + length :]
    assert as_json(parse_ratings(broken, THREE)) is not None
    assert parse_verdict(broken) in ("first", "second", "tie") or isinstance(parse_verdict(broken), ParseFailure)
    for value in (one(broken), one(broken[::-1])):
        assert isinstance(value, dict) or value in (1, 2, 3, 4, 5)


ALL_REPLIES = st.sampled_from(
    [case.values[0] for name in ("one_criterion", "three_criteria", "verdicts") for case in cases(name)]
)
KEEPING = (PROSE.filter(_harmless), PROSE.filter(_harmless), WRAPS)
BROKEN = (ALL_REPLIES, st.integers(0, 60), st.integers(0, 8))


@settings(max_examples=500, deadline=None)
@given(*KEEPING, RATINGS, NUMBERED)
def test_wrapping_keeps_a_rating(before: str, after: str, wrap: str, form: str, rating: int) -> None:
    _keeps_its_value(before, after, wrap, form, rating)


@settings(max_examples=500, deadline=None)
@given(*KEEPING, VERDICTS, SIDED)
def test_wrapping_keeps_a_verdict(before: str, after: str, wrap: str, form: str, side: tuple[str, str]) -> None:
    _keeps_its_verdict(before, after, wrap, form, side)


@settings(max_examples=500, deadline=None)
@given(st.lists(PROSE, max_size=5))
def test_prose_without_a_verdict_offers_none(pieces: list[str]) -> None:
    _never_offers(pieces)


@settings(max_examples=500, deadline=None)
@given(*BROKEN)
def test_a_damaged_reply_gives_a_value_or_a_failure(text: str, start: int, length: int) -> None:
    _is_a_value_or_a_failure(text, start, length)


@pytest.mark.slow
def test_twenty_thousand_mutations() -> None:
    many = settings(max_examples=5_000, deadline=None)
    many(given(*KEEPING, RATINGS, NUMBERED)(_keeps_its_value))()
    many(given(*KEEPING, VERDICTS, SIDED)(_keeps_its_verdict))()
    many(given(st.lists(PROSE, max_size=5))(_never_offers))()
    many(given(*BROKEN)(_is_a_value_or_a_failure))()
