"""How long texts are in tokens, without a model: exact where a tokenizer lies beside the weights, else bounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple, Self

from strop.models.builtin import builtin_source
from strop.models.spec import ModelSpec

CHARACTERS_PER_TOKEN = (2, 6)
"""Fewest and most characters of a token, on average over a prompt, for tokenizers that cannot be asked."""


class Range(NamedTuple):
    """A number that is known (both ends alike), or the bounds of one that depends on what models answer."""

    low: int
    high: int

    def __str__(self) -> str:
        return f"{self.low:,}" if self.low == self.high else f"{self.low:,} to {self.high:,}"

    def plus(self, other: Range) -> Range:
        """Return the bounds of the sum."""
        return Range(self.low + other.low, self.high + other.high)

    def times(self, factor: int) -> Range:
        """Return the bounds of a multiple."""
        return Range(self.low * factor, self.high * factor)

    @classmethod
    def exactly(cls, number: int) -> Self:
        """Return a known number."""
        return cls(number, number)

    @classmethod
    def total(cls, ranges: Iterable[Range]) -> Range:
        """Return the bounds of a sum."""
        found = list(ranges)
        return Range(sum(one.low for one in found), sum(one.high for one in found))


NOTHING = Range(0, 0)


class Lengths:
    """Counts the tokens of texts: exactly by the model's own tokenizer, else in bounds made of characters."""

    def __init__(self) -> None:
        self._tokenizers: dict[str, Any] = {}
        self._known: dict[tuple[str, str], Range] = {}

    def total(self, spec: ModelSpec, texts: Sequence[str]) -> Range:
        """Return the tokens of all texts together, as `spec` reads them."""
        new = [text for text in texts if (spec.model, text) not in self._known]
        for text, length in zip(new, self._measure(spec, new), strict=True):
            self._known[spec.model, text] = length
        return Range.total(self._known[spec.model, text] for text in texts)

    def _measure(self, spec: ModelSpec, texts: Sequence[str]) -> Iterator[Range]:
        if spec.model not in self._tokenizers:
            self._tokenizers[spec.model] = fast_tokenizer(spec)
        tokenizer = self._tokenizers[spec.model]
        if tokenizer is not None:
            yield from (Range.exactly(len(encoded.ids)) for encoded in tokenizer.encode_batch(list(texts)))
        else:
            fewest, most = CHARACTERS_PER_TOKEN
            yield from (Range(ceil(len(text) / most), ceil(len(text) / fewest)) for text in texts)


def weights_folder(spec: ModelSpec) -> Path | None:
    """Return where the files of a model are, or None where finding that out would cost a download or a conversion."""
    if spec.kind == "local":
        return Path(spec.target)
    source = builtin_source(spec.target) if spec.kind == "builtin" else None
    return source if source is not None and source.is_dir() else None


def fast_tokenizer(spec: ModelSpec) -> Any | None:
    """Return the tokenizer beside the weights, loaded without transformers; None where it would not count alike."""
    folder = weights_folder(spec)
    if folder is None or spec.chat == "on" or not (folder / "tokenizer.json").is_file():
        return None
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError:
        return None
    return Tokenizer.from_file(str(folder / "tokenizer.json"))
