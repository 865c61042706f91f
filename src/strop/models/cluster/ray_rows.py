"""How batches go to the workers of a cluster and answers come back: as the rows of a dataset."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from strop.errors import StropError
from strop.models.batching import Batch
from strop.models.protocol import Call, Outcome
from strop.runs.calls import Ability

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker gives back for a batch.

    Attributes:
        outcomes: Index into the batch, and outcome; fewer than its calls where the model stopped.
        stop: Why it stopped.
        abilities: What the worker knows of the server it asks.
    """

    outcomes: list[tuple[int, Outcome]]
    stop: StropError | None = None
    abilities: dict[str, Ability] = field(default_factory=dict)


def batch_rows(numbered: Iterable[tuple[int, Batch]]) -> list[Row]:
    """Return one row a batch; its number tells which one an answer belongs to."""
    return [{"batch": number, "calls": pickle.dumps(batch.calls)} for number, batch in numbered]


def calls_of(row: Row) -> list[Call]:
    """Return the calls of a batch's row."""
    calls: list[Call] = pickle.loads(row["calls"])
    return calls


def answer_row(number: int, answer: Answer) -> Row:
    """Return the row that takes an answer back."""
    return {"batch": number, "answer": pickle.dumps(answer)}


def answer_of(row: Row) -> Answer:
    """Return the answer of its row."""
    answer: Answer = pickle.loads(row["answer"])
    return answer
