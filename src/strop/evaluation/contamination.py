"""Whether training texts hold what a benchmark asks: runs of words that both share (n-gram overlap, Brown et al. 2020).

A hit is told by hashes and by the names of text and item, never by what they say: benchmarks hold real people's posts.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from strop.errors import UserError
from strop.evaluation.surface import words_of
from strop.records.rows import Identifier

WORDS = 8
"""Words of a run. Brown et al. use 13 and the fifth percentile of the items' lengths, at least 8, for short items."""
TEMPLATE_ITEMS = 10
"""A run in more items than this is how the benchmark asks, not what: it counts as a template, not as a hit."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """A training text and a benchmark item that share words.

    Attributes:
        text: The training text's id.
        item: The item's id.
        runs: How many different runs they share.
        hash: The hash of the first of them, in the order of the text.
    """

    text: Identifier
    item: Identifier
    runs: int
    hash: str


@dataclass(frozen=True, slots=True)
class Contamination:
    """What the comparison found.

    Attributes:
        words: Words of a run.
        texts: Training texts.
        items: Benchmark items.
        short_texts: Texts with fewer words than a run; nothing can be found in them.
        short_items: Items with fewer words than a run; they cannot be found.
        templates: Runs that are in too many items to say anything.
        overlaps: The hits, in the order of the texts.
    """

    words: int
    texts: int
    items: int
    short_texts: int
    short_items: int
    templates: int
    overlaps: tuple[Overlap, ...]

    @property
    def texts_hit(self) -> tuple[Identifier, ...]:
        """Texts that share a run with an item, each once, in order."""
        return tuple(dict.fromkeys(overlap.text for overlap in self.overlaps))

    @property
    def items_hit(self) -> tuple[Identifier, ...]:
        """Items that share a run with a text, each once, in the order in which they were met."""
        return tuple(dict.fromkeys(overlap.item for overlap in self.overlaps))

    def to_row(self) -> dict[str, Any]:
        """Return the counts and the hits as JSON; no text is among them."""
        return {
            "words": self.words,
            "texts": self.texts,
            "items": self.items,
            "short_texts": self.short_texts,
            "short_items": self.short_items,
            "templates": self.templates,
            "texts_hit": len(self.texts_hit),
            "items_hit": len(self.items_hit),
            "overlaps": [
                {"text": hit.text, "item": hit.item, "runs": hit.runs, "hash": hit.hash} for hit in self.overlaps
            ],
        }


def folded_words(text: str) -> list[str]:
    """Return the words of a text without case, punctuation, apostrophes and differences of Unicode form."""
    folded = unicodedata.normalize("NFKC", text).replace("\u2019", "'").replace("'", "")
    return words_of(folded)


def contamination(
    texts: Iterable[tuple[Identifier, str]],
    items: Iterable[tuple[Identifier, str]],
    *,
    words: int = WORDS,
    template_items: int = TEMPLATE_ITEMS,
) -> Contamination:
    """Look for runs of words that training texts share with benchmark items.

    Args:
        texts: Id and text of each training example: its prompt and its response.
        items: Id and text of each benchmark item: its question, context and options; ids differ between benchmarks.
        words: Words of a run, at least 2.
        template_items: A run in more items than this is a template.

    Raises:
        UserError: A run would be shorter than two words, or two items with different texts share an id.
    """
    if words < 2:
        raise UserError("a run of words has at least two", value=words)
    index, listed, short_items = _indexed(items, words)
    templates = {run for run, names in index.items() if len(names) > template_items}
    overlaps: list[Overlap] = []
    count = short_texts = 0
    for name, text in texts:
        runs = list(dict.fromkeys(_runs(folded_words(text), words)))
        count += 1
        short_texts += not runs
        shared: Counter[Identifier] = Counter()
        first: dict[Identifier, str] = {}
        for run in runs:
            for item in index.get(run, ()) if run not in templates else ():
                shared[item] += 1
                first.setdefault(item, run.hex())
        overlaps += [Overlap(name, item, found, first[item]) for item, found in shared.items()]
    return Contamination(words, count, listed, short_texts, short_items, len(templates), tuple(overlaps))


def _indexed(
    items: Iterable[tuple[Identifier, str]], words: int
) -> tuple[dict[bytes, dict[Identifier, None]], int, int]:
    """Return the items that hold each run, how many items there are, and how many are too short for a run."""
    index: dict[bytes, dict[Identifier, None]] = {}
    known: dict[Identifier, str] = {}
    short = 0
    for name, text in items:
        if known.setdefault(name, text) != text:
            raise UserError(
                "two benchmark items share an id", value=name, fix="put the benchmark's name in front: medqa/17"
            )
        empty = True
        for run in _runs(folded_words(text), words):
            index.setdefault(run, {})[name] = None
            empty = False
        short += empty
    return index, len(known), short


def _runs(words: list[str], length: int) -> Iterator[bytes]:
    """Yield the hash of every run; hashes keep the index of a benchmark small, and out of it what people wrote."""
    for place in range(len(words) - length + 1):
        run = " ".join(words[place : place + length])
        yield hashlib.blake2b(run.encode("utf-8", "surrogatepass"), digest_size=8).digest()
