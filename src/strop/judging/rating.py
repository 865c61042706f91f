"""Rating responses by a rubric: a whole number from 1 to 5 for each criterion, or the failure that stands in its place.

A failed rating never becomes a number, and neither does a mean that lacks one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from strop.judging.asking import Asking, Read, ask_judge
from strop.judging.parsing import ParseFailure, Ratings, parse_ratings
from strop.judging.prompts import rating_prompt, rating_schema
from strop.judging.rubric import Criterion, Rubric
from strop.models.asking import Advance
from strop.models.protocol import TextModel
from strop.records.rows import Answer, Identifier
from strop.runs.seeds import stream
from strop.runs.store import CallStore

Mode = Literal["all", "each", "shuffled"]
"""All criteria in one call; one call for each, against halos; or one call with the criteria in a seeded order."""
Gate = Literal["passed", "failed", "unknown"]


@dataclass(frozen=True, slots=True)
class Rating:
    """One response rated by one judge.

    Attributes:
        id: The response's id.
        values: A whole number from 1 to 5 or a failure, by criterion, in the rubric's order.
        order: The criteria in the order in which the judge was asked.
        mean: Weighted mean of the ratings; None where one of them is missing.
        total: Sum of the ratings, unweighted; None where one of them is missing.
        gate: Whether every gate was passed; unknown where a gate has no rating and no other gate failed.
    """

    id: Identifier
    values: Mapping[str, int | ParseFailure]
    order: tuple[str, ...]
    mean: float | None
    total: int | None
    gate: Gate

    @property
    def failures(self) -> dict[str, ParseFailure]:
        """The criteria without a rating, and why."""
        return {key: value for key, value in self.values.items() if isinstance(value, ParseFailure)}

    def to_row(self) -> dict[str, Any]:
        """Return the rating as a row; a missing number is null, and ``failures`` says why."""
        return {
            "id": self.id,
            "ratings": {key: value if isinstance(value, int) else None for key, value in self.values.items()},
            "mean": self.mean,
            "total": self.total,
            "gate": self.gate,
            "order": list(self.order),
            "failures": {key: str(why) for key, why in self.failures.items()},
        }


@dataclass(frozen=True, slots=True)
class _Question:
    """One call: a response, and the criteria that it is rated on."""

    item: Answer
    criteria: tuple[Criterion, ...]


def rate(
    model: TextModel,
    items: Sequence[Answer],
    *,
    rubric: Rubric,
    store: CallStore,
    asking: Asking | None = None,
    mode: Mode = "all",
    seed: int = 0,
    advance: Advance | None = None,
) -> list[Rating]:
    """Return one rating for each response, in their order.

    Args:
        model: The judge.
        items: The responses with what they answer.
        rubric: What to rate.
        store: Keeps the replies.
        asking: How to ask; `Asking()` by default.
        mode: See `Mode`.
        seed: Of the order of criteria where it is shuffled.
        advance: Told how many replies have come.

    Raises:
        Stopped: See `ask_judge`.
        UserError: The rubric has no criteria.
    """
    rubric.require_criteria()
    asking = asking or Asking()
    questions = [question for item in items for question in _questions(item, rubric, mode, seed)]
    prompts = [
        rating_prompt(asked.item.prompt, asked.item.response, asked.criteria, rubric=rubric, form=asking.form)
        for asked in questions
    ]
    schemas = [rating_schema(asked.criteria) for asked in questions] if asking.form == "json" else ()
    readers = [_reader(rubric, asked.criteria) for asked in questions]
    readings = iter(ask_judge(model, prompts, readers, asking=asking, schemas=schemas, store=store, advance=advance))
    asked_of = iter(questions)
    ratings: list[Rating] = []
    for item in items:
        calls = len(rubric.criteria) if mode == "each" else 1
        values: dict[str, int | ParseFailure] = {}
        for _ in range(calls):
            values.update(next(readings))
        order = tuple(criterion.key for _ in range(calls) for criterion in next(asked_of).criteria)
        ratings.append(rated(item.id, values, rubric=rubric, order=order))
    return ratings


def rated(
    identifier: Identifier, values: Mapping[str, int | ParseFailure], *, rubric: Rubric, order: tuple[str, ...]
) -> Rating:
    """Return a rating with its mean, its total and the state of its gates.

    Args:
        identifier: The response's id.
        values: A number or a failure for each criterion of the rubric.
        rubric: Gives the weights and the gates.
        order: The criteria in the order in which they were asked.
    """
    ordered = {key: values[key] for key in rubric.keys}
    numbers = [value for value in ordered.values() if isinstance(value, int)]
    weights = [criterion.weight for criterion in rubric.criteria]
    complete = len(numbers) == len(ordered)
    weighted = sum(weight * number for weight, number in zip(weights, numbers, strict=False))
    return Rating(
        id=identifier,
        values=ordered,
        order=order,
        mean=weighted / sum(weights) if complete else None,
        total=sum(numbers) if complete else None,
        gate=gate_of(ordered, rubric),
    )


def gate_of(values: Mapping[str, float | ParseFailure], rubric: Rubric) -> Gate:
    """Return whether a response passes the rubric's gates: one that fails can never be preferred."""
    gates = [(values[criterion.key], criterion.passes_from) for criterion in rubric.criteria if criterion.gate]
    if any(not isinstance(value, ParseFailure) and value < least for value, least in gates):
        return "failed"
    return "unknown" if any(isinstance(value, ParseFailure) for value, _ in gates) else "passed"


def _questions(item: Answer, rubric: Rubric, mode: Mode, seed: int) -> list[_Question]:
    match mode:
        case "all":
            return [_Question(item, rubric.criteria)]
        case "each":
            return [_Question(item, (criterion,)) for criterion in rubric.criteria]
    shuffled = list(rubric.criteria)
    stream(seed, "criteria", item.id).shuffle(shuffled)
    return [_Question(item, tuple(shuffled))]


def _reader(rubric: Rubric, criteria: tuple[Criterion, ...]) -> Read[int | ParseFailure]:
    return partial(_read, rubric.model_copy(update={"criteria": criteria}))


def _read(rubric: Rubric, reply: str | ParseFailure) -> Mapping[str, int | ParseFailure]:
    outcome = reply if isinstance(reply, ParseFailure) else parse_ratings(reply, rubric)
    return outcome.values if isinstance(outcome, Ratings) else dict.fromkeys(rubric.keys, outcome)
