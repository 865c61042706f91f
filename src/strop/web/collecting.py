"""The marks of all annotators side by side, pair by pair, with the label where the pairs are at hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from strop.errors import UserError
from strop.judging.pairs import HumanPair, read_pairs
from strop.web.annotations import AnnotationFile
from strop.web.blinding import Response, labelled, pair_key
from strop.web.marks import Mark, fold


@dataclass(frozen=True, slots=True)
class MarkedPair:
    """One pair and what everybody says about it.

    Attributes:
        key: The pair's id as JSON text.
        group: What is resampled as a whole.
        label: The response that the label prefers; None where the pairs are not at hand.
        marks: By annotator; those who did nothing on this pair are absent.
    """

    key: str
    group: str
    label: Response | None
    marks: Mapping[str, Mark]


@dataclass(frozen=True, slots=True)
class Collected:
    """What a file of annotations holds.

    Attributes:
        annotators: Their names, sorted.
        criteria: Keys of the criteria that could be marked.
        pairs: Every pair of the set, sorted by key.
    """

    annotators: tuple[str, ...]
    criteria: tuple[str, ...]
    pairs: tuple[MarkedPair, ...]


def pairs_behind(file: AnnotationFile, given: Path | None = None) -> list[HumanPair] | None:
    """Return the pairs that a file of annotations belongs to.

    Args:
        file: The annotations.
        given: Where the pairs are; None for where they were when the annotations began.

    Returns:
        The pairs; None where `given` is None and no file is left there.

    Raises:
        UserError: The file found holds other pairs.
    """
    meta = file.meta
    path = given or Path(meta["pairs_file"])
    if given is None and not path.is_file():
        return None
    pairs = read_pairs(path, json.loads(meta["fields"]))
    file.require_pairs(pairs, path)
    return pairs


def require_pairs_behind(file: AnnotationFile, given: Path | None = None) -> list[HumanPair]:
    """Return the pairs that a file of annotations belongs to; see `pairs_behind`.

    Raises:
        UserError: They are not where they were, or the file found holds others.
    """
    pairs = pairs_behind(file, given)
    if pairs is None:
        where = file.meta["pairs_file"]
        raise UserError("the pairs are no longer where they were", value=where, fix="say where they are with --pairs")
    return pairs


def collect(file: AnnotationFile, pairs: Sequence[HumanPair] | None) -> Collected:
    """Return all marks of a file, side by side.

    Args:
        file: The annotations.
        pairs: The pairs that it belongs to; None leaves the labels out.
    """
    marks = {name: fold(file.events(name)) for name in file.tokens()}
    labels = {pair_key(pair.id): labelled(pair) for pair in pairs or ()}
    return Collected(
        annotators=tuple(marks),
        criteria=tuple(key for key, _, _ in file.settings.criteria),
        pairs=tuple(
            MarkedPair(key, group, labels.get(key), {name: found[key] for name, found in marks.items() if key in found})
            for key, group in file.groups().items()
        ),
    )


def majority(marks: Mapping[str, Mark]) -> Response | None:
    """Return the response that more annotators prefer; None where none is preferred more often.

    "Equally good" and "cannot judge" are no votes.
    """
    verdicts = [mark.verdict for mark in marks.values()]
    first, second = verdicts.count("first"), verdicts.count("second")
    if first == second:
        return None
    return "first" if first > second else "second"
