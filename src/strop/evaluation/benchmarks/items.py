"""What a benchmark is here: items with a closed set of labels, one of them right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from strop.records.rows import Identifier

Family = Literal["choice", "verdict", "cams", "dreaddit", "irf"]
"""How a task asks and how its replies are read: lettered options; yes, no or maybe; the three sets of IMHI."""

LETTERS = "ABCDEFGHIJ"
VERDICTS = ("yes", "no", "maybe")
YES_NO = ("yes", "no")
CAUSES = ("none", "bias or abuse", "jobs and career", "medication", "relationship", "alienation")

SPARED = frozenset({"cams", "dreaddit", "irf"})
"""Families whose items quote real people's posts: strop prints none of them."""


@dataclass(frozen=True, slots=True)
class Item:
    """One question with its right answer.

    Attributes:
        id: The file's id, or the number of the row, counted from 0.
        question: What is asked.
        labels: What can be answered: letters, ``yes`` and ``no``, causes.
        options: The text that each label stands for; the labels themselves where there is nothing behind them.
        gold: The right label.
        contexts: Texts to read before the question: sections of an abstract, a post.
        part: The slice that the item belongs to: an MMLU set, a subject, one of IRF's two questions; empty for none.
    """

    id: Identifier
    question: str
    labels: tuple[str, ...]
    options: tuple[str, ...]
    gold: str
    contexts: tuple[str, ...] = ()
    part: str = ""

    @property
    def target(self) -> int:
        """The place of the right label, from 0."""
        return self.labels.index(self.gold)

    def texts(self) -> Mapping[str, str]:
        """Return the option behind each label."""
        return dict(zip(self.labels, self.options, strict=True))

    def content(self) -> tuple[Any, ...]:
        """Return what two rows share when they ask the same thing with the same right answer."""
        return self.question, self.labels, self.options, self.gold, self.contexts, self.part


@dataclass(frozen=True, slots=True)
class Task:
    """A benchmark as it is asked.

    Attributes:
        name: What to call it beside its scores.
        family: How it asks and how replies are read.
        items: At least one, with ids of their own.
        layout: The layout of its rows: ``choices``, ``medmcqa``, ``pubmedqa``, ``imhi``.
        files: The files that it was read from.
        duplicates: Rows that repeated another one and were left out.
        with_contexts: Whether the contexts are part of the prompt.
    """

    name: str
    family: Family
    items: tuple[Item, ...]
    layout: str
    files: tuple[str, ...]
    duplicates: int = 0
    with_contexts: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label that some item offers, in their usual order."""
        return tuple(dict.fromkeys(label for item in sorted(self.items, key=_most_labels) for label in item.labels))


def _most_labels(item: Item) -> int:
    return -len(item.labels)
