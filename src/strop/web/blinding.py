"""What an annotator is shown: pairs in an order and on sides of their own, the label left out.

The two responses of a pair are named by what is in them: *first* is the one whose text sorts first. The label has no
part in that, so marks that are kept as first and second stay as they are when a label is corrected, and the marginals
of an agreement statistic say nothing about the label.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from strop.judging.pairs import HumanPair
from strop.records.rows import Identifier, Prompt, prompt_to_json
from strop.runs.seeds import stream

Response = Literal["first", "second"]
OTHER: dict[Response, Response] = {"first": "second", "second": "first"}


@dataclass(frozen=True, slots=True)
class Item:
    """One pair as one annotator sees it.

    Attributes:
        key: The pair's id as JSON text: `1` and `"1"` are different pairs.
        prompt: Text, or the conversation so far.
        left: The text on the left.
        right: The text on the right.
        shown_left: Which response stands on the left.
        risk: Whether the prompt speaks of suicide, self-harm or overdose.
    """

    key: str
    prompt: Prompt
    left: str
    right: str
    shown_left: Response
    risk: bool


def pair_key(identifier: Identifier) -> str:
    """Return an id as JSON text, in which integers and text differ."""
    return json.dumps(identifier)


def texts_of(pair: HumanPair) -> tuple[str, str]:
    """Return the first and the second response; see the head of this module."""
    first, second = sorted((pair.better, pair.worse))
    return first, second


def labelled(pair: HumanPair) -> Response:
    """Return the response that the label prefers."""
    return "first" if pair.better == texts_of(pair)[0] else "second"


def set_hash(pairs: Sequence[HumanPair]) -> str:
    """Return the SHA-256 of a set of pairs: ids, prompts and responses; neither the labels nor the order enter."""
    rows = [[pair_key(pair.id), prompt_to_json(pair.prompt), *texts_of(pair)] for pair in pairs]
    lines = sorted(json.dumps(row, sort_keys=True) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def blinded_items(pairs: Sequence[HumanPair], annotator: str) -> list[Item]:
    """Return the pairs in the order and on the sides of one annotator.

    Both are drawn from streams of the set's hash and the annotator's name, after sorting by id: the file's order has
    no part in them, and the same annotator finds the same order whenever the page is opened again.

    Args:
        pairs: The pairs, each with an id of its own.
        annotator: The annotator's name.
    """
    digest = set_hash(pairs)
    by_key = {pair_key(pair.id): pair for pair in pairs}
    keys = sorted(by_key)
    # random() alone is promised to be the same in every version of Python; shuffle() is not.
    order, sides = (stream(0, "annotate", digest, annotator, name) for name in ("order", "sides"))
    drawn = {key: (order.random(), sides.random() < 0.5) for key in keys}
    return [_item(by_key[key], swapped=drawn[key][1]) for key in sorted(keys, key=lambda key: drawn[key][0])]


def _item(pair: HumanPair, *, swapped: bool) -> Item:
    first, second = texts_of(pair)
    left, right = (second, first) if swapped else (first, second)
    return Item(pair_key(pair.id), pair.prompt, left, right, "second" if swapped else "first", pair.risk_language)
