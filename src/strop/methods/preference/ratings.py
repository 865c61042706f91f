"""Rated responses as rows: read strictly, so that no missing or impossible rating ever becomes a number."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strop.errors import UserError
from strop.judging.rating import Gate
from strop.records.rows import identifier

PRINCIPLES = ("empathy", "relevance", "clarity", "safety", "exploration", "autonomy", "staging")
"""Keys of the seven principles, in the order of the published columns."""
SAFETY = "safety"
LOWEST, HIGHEST = 1, 5
GATES: tuple[Gate, ...] = ("passed", "failed", "unknown")


@dataclass(frozen=True, slots=True)
class RatedResponse:
    """A response with all its ratings.

    Attributes:
        id: Unique within its speech.
        text: The response.
        model: Who wrote it; empty where that is not known.
        ratings: Whole numbers from 1 to 5 (fractions where they are expectations), in the order of the principles.
        total: Their sum.
        repeats: Sums of the complete further ratings by the same judge.
        gate: The judge's gate, as the row gives it; None where it gives none.
    """

    id: str
    text: str
    model: str
    ratings: Mapping[str, float]
    total: float
    repeats: tuple[float, ...]
    gate: Gate | None


@dataclass(frozen=True, slots=True)
class RatedSpeech:
    """A speech with its usable responses, and for each other one the reason why it is in no pair."""

    id: str
    text: str
    topic: str
    split: str | None
    responses: tuple[RatedResponse, ...]
    unusable: tuple[str, ...]


def read_rated(
    rows: Iterable[Mapping[str, Any]],
    principles: Sequence[str] = PRINCIPLES,
    *,
    expected: bool = False,
    distinct_models: bool = True,
) -> Iterator[RatedSpeech]:
    """Yield the speeches of a table of rated responses one by one.

    A response whose ratings are not all there, or not all possible, is set aside with the reason; it is no error, for
    judges do fail. A table that contradicts itself is one.

    Args:
        rows: ``{"id", "speech", "responses": [{"id", "text", "model", "ratings", "repeats", "gate"}]}``, with `topic`
            and `split` where they are known. `prompt` may stand for `speech`.
        principles: Keys of the ratings.
        expected: Ratings may be fractions.
        distinct_models: Refuse a speech of which two responses are by one model, or one is by nobody.

    Raises:
        UserError: Ids are missing or occur twice; a speech has no text; responses or ratings have another form; a
            gate is unknown; or a model wrote two responses to a speech.
    """
    seen: set[str] = set()
    for row in rows:
        key = str(identifier(row))
        if key in seen:
            raise UserError("a speech id occurs more than once", value=key, fix="give each speech one row")
        seen.add(key)
        speech = _speech(row, key, principles, expected=expected)
        if distinct_models:
            _require_distinct_models(row, key)
        yield speech


def _speech(row: Mapping[str, Any], key: str, principles: Sequence[str], *, expected: bool) -> RatedSpeech:
    text = row.get("speech", row.get("prompt"))
    if not isinstance(text, str) or not text.strip():
        raise UserError(
            f"speech {key!r} has no text", value=sorted(row), fix="map its field with --fields speech=YOURS"
        )
    given = row.get("responses")
    if not isinstance(given, (list, tuple)) or not all(isinstance(one, Mapping) for one in given):
        raise UserError(f"speech {key!r}: 'responses' must be a list of rated responses", value=given)
    names = [str(identifier(one)) for one in given]
    if len(set(names)) < len(names):
        twice = sorted(name for name in set(names) if names.count(name) > 1)
        raise UserError(f"speech {key!r}: a response id occurs more than once", value=twice)
    read = [
        _response(one, f"speech {key!r}, response {name!r}", principles, expected)
        for one, name in zip(given, names, strict=True)
    ]
    topic, split = row.get("topic"), row.get("split")
    return RatedSpeech(
        key,
        text,
        "" if topic is None else str(topic),
        None if split is None else str(split),
        tuple(one for one in read if isinstance(one, RatedResponse)),
        tuple(one for one in read if isinstance(one, str)),
    )


def _response(row: Mapping[str, Any], where: str, principles: Sequence[str], expected: bool) -> RatedResponse | str:
    """Return a rated response, or why it cannot be used."""
    text, model, gate = row.get("text"), row.get("model"), row.get("gate")
    if gate is not None and gate not in GATES:
        raise UserError(f"{where}: unknown gate", value=gate, alternatives=GATES)
    if text is not None and not isinstance(text, str):
        raise UserError(f"{where}: a response must be text", value=text)
    repeats = row.get("repeats")
    if repeats is not None and not isinstance(repeats, (list, tuple)):
        raise UserError(f"{where}: 'repeats' must be a list of ratings", value=repeats)
    ratings = _ratings(row.get("ratings"), where, principles, expected)
    if text is None or not text.strip():
        return "no text"
    if isinstance(ratings, str):
        return ratings
    again = [_ratings(one, f"{where}, repeat", principles, expected) for one in repeats or ()]
    return RatedResponse(
        str(identifier(row)),
        text,
        "" if model is None else str(model),
        ratings,
        math.fsum(ratings.values()) if expected else sum(ratings.values()),
        tuple(math.fsum(one.values()) if expected else sum(one.values()) for one in again if not isinstance(one, str)),
        gate,
    )


def _ratings(given: object, where: str, principles: Sequence[str], expected: bool) -> dict[str, float] | str:
    """Return all ratings, or why there are none: the first principle that lacks a possible one."""
    if given is None:
        return "not rated"
    if not isinstance(given, Mapping):
        raise UserError(f"{where}: ratings must be a mapping of principles to numbers", value=given)
    ratings: dict[str, float] = {}
    for key in principles:
        value = given.get(key)
        if value is None:
            return f"{key}: no rating"
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return f"{key}: not a number"
        if not LOWEST <= value <= HIGHEST:
            return f"{key}: outside {LOWEST} to {HIGHEST}"
        if expected:
            ratings[key] = float(value)
        elif value == int(value):
            ratings[key] = int(value)
        else:
            return f"{key}: not a whole number"
    return ratings


def _require_distinct_models(row: Mapping[str, Any], key: str) -> None:
    models = [one.get("model") for one in row["responses"]]
    if not all(models):
        raise UserError(
            f"speech {key!r}: a response does not say which model wrote it",
            fix="add 'model', or switch `distinct_models` off (--any-models)",
        )
    if len(set(map(str, models))) < len(models):
        raise UserError(
            f"speech {key!r}: one model wrote two responses",
            value=sorted(str(one) for one in models),
            why="pairs are to tell good responses from bad ones, not samples of one model",
            fix="draw different models, or switch `distinct_models` off (--any-models)",
        )
