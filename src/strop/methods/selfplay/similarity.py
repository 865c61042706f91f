"""How near two texts are, and from which value on they say the same: an encoder and its threshold, one pair.

The cosine of another encoder lies elsewhere, so thresholds belong to the encoder that they were calibrated with
(``strop selfplay calibrate``). It lies elsewhere for another field, too (two ways of coping share more words than two
beliefs), so each field has its own. The released code compares mean-pooled ``bert-base-uncased`` with 0.9, where almost
any two texts are near each other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from pydantic import Field

from strop.errors import UserError
from strop.models.embedding import Embedder, Vectors, open_embedder
from strop.runs.configuration import Config
from strop.runs.shipped import DATA, DataPath

CALIBRATION = DATA / "selfplay" / "calibration-v1.json"
"""The shipped calibration, of ``builtin:minilm``."""
CALIBRATION_FORMAT = "selfplay-calibration-1"

# Every repetition is bounded: a model's reply may hold anything, any number of times.
_LABEL = re.compile(
    r"(?:\A|(?<=[.;!?\n]))[\s*_#>-]{0,8}(?:(?:automatic|intermediate|core|the|his|her|their|patient's)\s{1,2}){0,3}"
    r"(?:thoughts?|beliefs?|rules|emotions?|feelings?|behaviou?rs?|coping(?:\s(?:strateg(?:y|ies)|style))?|manner|principles?)"
    r"(?:\s(?:during|while|when|in)\s\w{1,20})?[\s*_]{0,4}:[*_]{0,2}",
    re.IGNORECASE,
)


class Matcher(Protocol):
    """Says how near two texts are."""

    @property
    def name(self) -> str:
        """Encoder and threshold, for records and reports."""
        ...

    @property
    def threshold(self) -> float:
        """The similarity from which on two texts say the same."""
        ...

    def similarities(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return the cosine of each pair of texts, -1 to 1; no text may be empty."""
        ...


@runtime_checkable
class FieldMatcher(Matcher, Protocol):
    """A matcher whose threshold depends on the field that the texts are about."""

    @property
    def thresholds(self) -> Mapping[str, float]:
        """The thresholds by field; any other field has `threshold`."""
        ...


class MatcherSettings(Config):
    """How texts are compared: an encoder, and the thresholds that were calibrated with it."""

    embedder: str = "builtin:minilm"
    """Encoder of the texts: builtin:minilm, or the path of a folder."""
    calibration: DataPath = Field(CALIBRATION)
    """File of `strop selfplay calibrate` that holds the thresholds, field by field; it must be of this encoder."""
    threshold: float | None = Field(None, gt=-1, lt=1)
    """A threshold of your own, for every field; null takes the calibrated ones. The released code takes 0.9."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a matcher takes from a calibration file.

    Attributes:
        embedder: The encoder, as it was asked for.
        revision: Its revision.
        threshold: The one of all fields together.
        fields: Those of single fields.
    """

    embedder: str
    revision: str
    threshold: float
    fields: Mapping[str, float]


class EmbeddingMatcher:
    """Compares texts by the cosine of their vectors; each different text is embedded once."""

    def __init__(self, embedder: Embedder, threshold: float, thresholds: Mapping[str, float] | None = None) -> None:
        """Take an encoder and the thresholds that belong to it: of any field, and of some."""
        self.threshold, self.thresholds = threshold, dict(thresholds or {})
        self._embedder = embedder
        self._vectors: dict[str, Vectors] = {}

    @property
    def name(self) -> str:
        """Encoder and thresholds."""
        own = [f"{field} {value:.4f}" for field, value in self.thresholds.items()]
        return f"{self._embedder.name} at {', '.join([f'{self.threshold:.4f}', *own])}"

    def similarities(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return the cosine of each pair of texts.

        Raises:
            ValueError: A text is empty: there is nothing to compare, and no number for it.
            UserError: The encoder gives a text no direction.
        """
        if any(not text.strip() for pair in pairs for text in pair):
            raise ValueError("an empty text has no similarity")
        self._embed([text for pair in pairs for text in pair])
        return [float(np.clip(self._vectors[left] @ self._vectors[right], -1.0, 1.0)) for left, right in pairs]

    def _embed(self, texts: Sequence[str]) -> None:
        fresh = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if not fresh:
            return
        for text, vector in zip(fresh, self._embedder.encode(fresh), strict=True):
            if not np.any(vector):
                raise UserError("the encoder gives a text no direction", value=text[:80], fix="take another encoder")
            self._vectors[text] = vector


def compared_text(text: str) -> str:
    """Return a text as it is compared: without labels such as ``Emotions:``, on one line.

    A card and an answer that carry the same labels are near each other whatever they say: with labels, one constant
    answer passed for 27 of the 28 shipped cards (docs/selfplay_cards.md).
    """
    return " ".join(_LABEL.sub(" ", text).split())


def passes(similarity: float, threshold: float) -> bool:
    """Say whether texts of this similarity count as the same: strictly less fails, the threshold itself passes."""
    return similarity >= threshold


def threshold_for(matcher: Matcher, field: str) -> float:
    """Return the similarity from which on two texts about a field say the same."""
    fields = matcher.thresholds if isinstance(matcher, FieldMatcher) else {}
    return fields.get(field, matcher.threshold)


def open_matcher(settings: MatcherSettings, *, cache: Path | None = None) -> EmbeddingMatcher:
    """Open the encoder with its threshold; nothing heavy is loaded before the first new text.

    Args:
        settings: Which encoder, which threshold.
        cache: Where vectors are kept; the user's cache folder by default.

    Raises:
        UserError: No such encoder or calibration file, or the file is of another encoder.
    """
    embedder = open_embedder(settings.embedder, cache=cache)
    if settings.threshold is not None:
        return EmbeddingMatcher(embedder, settings.threshold)
    calibrated = read_thresholds(settings.calibration)
    if calibrated.revision != embedder.revision:
        raise UserError(
            "the calibrated threshold is of another encoder",
            value=f"{settings.embedder}, and {settings.calibration.name} of {calibrated.embedder}",
            why="a threshold means nothing for the cosines of another encoder or another version of it",
            fix=f"strop selfplay calibrate --embedder {settings.embedder}, and name its file as 'calibration'",
        )
    return EmbeddingMatcher(embedder, calibrated.threshold, calibrated.fields)


def read_thresholds(path: Path) -> Thresholds:
    """Read the thresholds of a calibration file.

    Raises:
        UserError: The file is missing, or is no calibration.
    """
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise UserError("the calibration file cannot be read", value=str(path), why=problem.strerror) from problem
    except ValueError as problem:
        raise UserError("the calibration file is no JSON", value=str(path), why=str(problem)) from problem
    if not isinstance(content, dict) or content.get("format") != CALIBRATION_FORMAT:
        raise UserError("no calibration file", value=str(path), fix="make one with strop selfplay calibrate")
    embedder, revision, fields = (content.get(name) for name in ("embedder", "revision", "thresholds"))
    if not isinstance(embedder, str) or not isinstance(revision, str) or not isinstance(fields, dict):
        raise UserError("the calibration file lacks its encoder, its revision or its thresholds", value=str(path))
    own = {field: _threshold(value, path) for field, value in fields.items()}
    return Thresholds(embedder, revision, _threshold(content.get("threshold"), path), own)


def _threshold(value: Any, path: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1 < value < 1:
        raise UserError(f"{path}: a threshold lies between -1 and 1", value=value)
    return float(value)
