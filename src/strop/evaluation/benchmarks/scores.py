"""What predictions are worth: accuracy beside every constant answer, macro-F1, and what hides behind an accuracy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from strop.errors import UserError
from strop.evaluation.benchmarks.predictions import Prediction
from strop.evaluation.statistics import Interval, PairedComparison, compare_paired, wilson

ONE_LABEL = 0.95
"""A model that gives one label in more than this share of its answers does not tell the items apart."""


@dataclass(frozen=True, slots=True)
class PartScores:
    """Accuracy on a slice of a task.

    Attributes:
        n: Items that were answered, rightly or not.
        accuracy: The share of right ones; Wilson's interval.
        majority: The label that is right most often.
        constant: What always answering it gets.
    """

    n: int
    accuracy: Interval
    majority: str
    constant: float


@dataclass(frozen=True, slots=True)
class TaskScores:
    """What predictions on a task are worth: empty and unreadable replies are wrong, failed calls are left out.

    Attributes:
        items: Items that were asked.
        failed: Items without any reply; they enter nothing below.
        accuracy: The share of right answers with Wilson's interval; None where every call failed.
        macro_f1: The mean F1 over the labels that are right somewhere; None as above.
        unparsed: The share of replies that state no label.
        empty: The share of empty replies.
        constants: By label, what always answering it gets.
        majority: The label with the highest constant.
        against_majority: The predictions against always answering that, item by item.
        predicted: By label, how often it was answered.
        one_label: The label of more than 95 % of the answers; None where there is no such label.
        parts: Accuracy by part, where there are several.
        published_accuracy: What the published scorer makes of the replies; None where it was not asked.
    """

    items: int
    failed: int
    accuracy: Interval | None
    macro_f1: float | None
    unparsed: float | None
    empty: float | None
    constants: Mapping[str, float]
    majority: str | None
    against_majority: PairedComparison | None
    predicted: Mapping[str, int]
    one_label: str | None
    parts: Mapping[str, PartScores]
    published_accuracy: float | None = None

    @property
    def constant(self) -> float | None:
        """What the best constant answer gets."""
        return self.constants[self.majority] if self.majority is not None else None

    def to_row(self) -> dict[str, Any]:
        """Return everything as JSON."""
        return asdict(self)

    def findings(self) -> list[str]:
        """Say what a reader of the accuracy must know."""
        told = []
        if self.failed:
            told.append(f"{self.failed:,} of {self.items:,} items got no reply and are left out")
        if self.against_majority is not None:
            told.append(_beside_constant(self.against_majority, str(self.majority), self.constants))
        if self.one_label is not None:
            told.append(
                f"more than {ONE_LABEL:.0%} of the answers are {self.one_label!r}: the items are not told apart"
            )
        if self.published_accuracy is not None:
            told.append(f"the published scorer, which calls empty answers right, gives {self.published_accuracy:.2%}")
        return told


def score(predictions: Sequence[Prediction], labels: Sequence[str]) -> TaskScores:
    """Score predictions.

    Args:
        predictions: One an item.
        labels: What can be answered; each gets a constant baseline.

    Raises:
        UserError: There is no prediction.
    """
    if not predictions:
        raise UserError("there are no predictions to score")
    known = [one for one in predictions if one.status != "failed"]
    n = len(known)
    golds = Counter(one.gold for one in known)
    constants = {label: golds[label] / n for label in labels} if n else {}
    majority = max(constants, key=constants.__getitem__) if constants else None
    predicted = Counter(one.label for one in known if one.label is not None)
    published = [one.published for one in known if one.published is not None]
    return TaskScores(
        items=len(predictions),
        failed=len(predictions) - n,
        accuracy=_accuracy(known) if n else None,
        macro_f1=macro_f1([one.gold for one in known], [one.label for one in known]) if n else None,
        unparsed=sum(one.status == "unparsed" for one in known) / n if n else None,
        empty=sum(one.status == "empty" for one in known) / n if n else None,
        constants=constants,
        majority=majority,
        against_majority=compare_paired(
            [float(one.label == one.gold) for one in known], [float(one.gold == majority) for one in known]
        )
        if n
        else None,
        predicted={label: predicted[label] for label in labels},
        one_label=_one_label(predicted),
        parts=_parts(known),
        published_accuracy=sum(published) / len(published) if published else None,
    )


def macro_f1(golds: Sequence[str], predicted: Sequence[str | None]) -> float:
    """Return the mean F1 over the labels among `golds`; a label that is never right and never answered does not count.

    Args:
        golds: The right labels, at least one.
        predicted: The answers; None is an answer that is no label.
    """
    right = Counter(gold for gold, label in zip(golds, predicted, strict=True) if gold == label)
    said, true = Counter(predicted), Counter(golds)
    return sum(2 * right[label] / (said[label] + true[label]) for label in true) / len(true)


def _accuracy(predictions: Sequence[Prediction]) -> Interval:
    return wilson(sum(one.label == one.gold for one in predictions), len(predictions))


def _one_label(predicted: Counter[str]) -> str | None:
    label, count = predicted.most_common(1)[0] if predicted else ("", 0)
    return label if count > ONE_LABEL * predicted.total() else None


def _parts(predictions: Sequence[Prediction]) -> dict[str, PartScores]:
    parts: dict[str, list[Prediction]] = {}
    for one in predictions:
        parts.setdefault(one.part, []).append(one)
    if len(parts) < 2:
        return {}
    found = {}
    for name in sorted(parts):
        of = parts[name]
        (majority, count), *_ = Counter(one.gold for one in of).most_common(1)
        found[name] = PartScores(len(of), _accuracy(of), majority, count / len(of))
    return found


def _beside_constant(compared: PairedComparison, label: str, constants: Mapping[str, float]) -> str:
    always = f"always answering {label!r} ({constants[label]:.2%})"
    if compared.distinguishable:
        return f"{'better' if compared.difference.estimate > 0 else 'worse'} than {always}, p = {compared.p_value:.2g}"
    if compared.items_needed is None:
        return f"as good as {always}"
    return f"not distinguishable from {always}; about {compared.items_needed:,} items would decide"
