"""Two models on the same items: exact McNemar test, the difference, and how many items would decide."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from strop.evaluation.benchmarks.predictions import Prediction
from strop.evaluation.statistics import PairedComparison, compare_paired
from strop.records.rows import Identifier


@dataclass(frozen=True, slots=True)
class Compared:
    """Two models on a task.

    Attributes:
        task: The task.
        first: The model that is compared.
        second: The model that it is compared with.
        result: First minus second, item by item; None where no item was answered by both.
    """

    task: str
    first: str
    second: str
    result: PairedComparison | None

    def to_row(self) -> dict[str, Any]:
        """Return the comparison as JSON."""
        return asdict(self)

    def finding(self) -> str:
        """Say in one sentence what the comparison shows."""
        pair = f"{self.task}: {self.first} against {self.second}"
        if self.result is None:
            return f"{pair}: no item was answered by both"
        difference = self.result.difference
        told = f"{difference.estimate:+.1%} ({difference.low:+.1%} to {difference.high:+.1%}, n = {self.result.n:,})"
        if self.result.distinguishable:
            return f"{pair}: {told}, p = {self.result.p_value:.2g}"
        needed = self.result.items_needed
        decide = "no difference was seen" if needed is None else f"about {needed:,} items would decide"
        return f"{pair}: {told}: not distinguishable, {decide}"


def compare(task: str, first: tuple[str, Sequence[Prediction]], second: tuple[str, Sequence[Prediction]]) -> Compared:
    """Compare two models' predictions on a task by the ids of its items.

    Args:
        task: Its name.
        first: A model's name and predictions.
        second: The other one's.
    """
    left, right = ({one.id: one.correct for one in predictions} for _, predictions in (first, second))
    shared = [key for key in left if key in right]
    if all(left[key] is None or right[key] is None for key in shared):
        return Compared(task, first[0], second[0], None)
    return Compared(task, first[0], second[0], compare_paired(_column(left, shared), _column(right, shared)))


def _column(outcomes: Mapping[Identifier, bool | None], keys: Sequence[Identifier]) -> list[float]:
    """Return outcomes as numbers, one that is not known as NaN."""
    told = [outcomes[key] for key in keys]
    return [math.nan if correct is None else float(correct) for correct in told]
