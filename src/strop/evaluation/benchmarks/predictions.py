"""What a model answered to an item, and how it was read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from strop.evaluation.benchmarks.items import Item
from strop.records.rows import Identifier

Status = Literal["answered", "unparsed", "empty", "failed"]
"""``unparsed`` and ``empty`` replies are wrong; ``failed`` is no reply at all, and neither right nor wrong."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One item's outcome.

    Attributes:
        id: The item's id.
        part: The item's part.
        gold: The right label.
        label: The label that was answered; None where none was.
        status: How the reply was read.
        reply: The reply; None where log-probabilities decide, or none came.
        log_probs: Of each label, in the item's order; None where replies are read.
        failure: Why there is no reply: the class of the error.
        published: What the published scorer makes of the reply; None where it was not asked.
    """

    id: Identifier
    part: str
    gold: str
    label: str | None
    status: Status
    reply: str | None = None
    log_probs: tuple[float, ...] | None = None
    failure: str | None = None
    published: bool | None = None

    @property
    def correct(self) -> bool | None:
        """Whether the answer is right; None where there was none to judge."""
        return None if self.status == "failed" else self.label == self.gold

    def to_row(self) -> dict[str, Any]:
        """Return the prediction as JSON, without what does not apply. It never quotes the item."""
        row: dict[str, Any] = {"id": self.id, "gold": self.gold, "label": self.label, "status": self.status}
        row["correct"] = self.correct
        optional: dict[str, Any] = {"part": self.part or None, "reply": self.reply, "log_probs": self.log_probs}
        optional |= {"failure": self.failure, "published": self.published}
        return row | {name: value for name, value in optional.items() if value is not None}


def answered(item: Item, label: str, **told: Any) -> Prediction:
    """Return the prediction of an item that was answered with a label."""
    return Prediction(item.id, item.part, item.gold, label, "answered", **told)


def failed(item: Item, failure: str) -> Prediction:
    """Return the prediction of an item that no answer came to."""
    return Prediction(item.id, item.part, item.gold, None, "failed", failure=failure)


def constant(items: tuple[Item, ...], label: str) -> list[Prediction]:
    """Return the predictions of a model that answers every item with the same label."""
    return [answered(item, label) for item in items]
