"""Client speeches: read, cleaned of duplicates, split so that none is on two sides (PsychoCounsel)."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from strop.errors import UserError
from strop.records.tables import iter_table
from strop.runs.configuration import Config
from strop.runs.seeds import SEED_LIMIT, derive_seed
from strop.runs.shipped import DataPath

Split = Literal["train", "development", "test"]
SPLITS: tuple[Split, ...] = ("train", "development", "test")

NO_TEXT = "no text"
SHORT = "too short"
LONG = "too long"
SAME = "the words of another speech"
NEAR = "nearly the words of another speech"
REASONS = (NO_TEXT, SHORT, LONG, SAME, NEAR)
"""Why a row is left out, in the order in which that is looked at."""

PERMUTATIONS = 128
SHINGLE = 5


class SpeechSettings(Config):
    """Which speeches are used, and how they are split."""

    files: tuple[DataPath, ...] = Field(min_length=1)
    """Rows of `speech` and, where there are any, `id` and `topic`: JSONL, JSON, Parquet or CSV. A speech without an id
    is named by a hash of its folded text."""
    fields: dict[str, str] = Field({})
    """Names to map, ours to the files': {speech: questionText}. A file that has ours already needs none."""
    min_characters: int = Field(100, ge=1)
    """Shortest speech."""
    max_characters: int = Field(1000, ge=1)
    """Longest speech."""
    near_duplicates: float | None = Field(0.7, gt=0, le=1)
    """Jaccard similarity from which two speeches are one, over runs of five characters; null keeps all but copies."""
    development: float = Field(0.1, ge=0, lt=1)
    """Expected share of speeches that checkpoints are chosen on."""
    test: float = Field(0.1, ge=0, lt=1)
    """Expected share of speeches that nothing is trained or chosen on."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.min_characters > self.max_characters:
            raise ValueError("'min_characters' is larger than 'max_characters'")
        if self.development + self.test >= 1:
            raise ValueError("'development' and 'test' leave nothing to train on")
        return self


@dataclass(frozen=True, slots=True)
class Speech:
    """What one client wrote, and the split that it belongs to."""

    id: str
    text: str
    topic: str
    split: Split

    def to_row(self) -> dict[str, Any]:
        """Return ``{"id", "speech", "topic", "split"}``."""
        return {"id": self.id, "speech": self.text, "topic": self.topic, "split": self.split}


@dataclass(frozen=True, slots=True)
class Speeches:
    """The speeches of a run, in the order of their files, and what became of the other rows.

    Attributes:
        speeches: What is used.
        rows: Rows read.
        left_out: Rows that are not used, by reason; every reason is there, also one that met no row.
    """

    speeches: tuple[Speech, ...]
    rows: int
    left_out: Mapping[str, int]

    @property
    def splits(self) -> dict[str, int]:
        """Speeches by split."""
        counts = Counter(speech.split for speech in self.speeches)
        return {split: counts[split] for split in SPLITS}

    def to_row(self) -> dict[str, Any]:
        """Return the counts as JSON."""
        kept = {"rows": self.rows, "speeches": len(self.speeches)}
        return {**kept, "splits": self.splits, "left_out": dict(self.left_out)}


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A row that may become a speech; `place` is its number over all files, `where` names it in messages."""

    id: str
    text: str
    topic: str
    key: str
    place: int
    where: str


def fold_speech(text: str) -> str:
    """Return the letters and digits of `text` alone: equal for texts that differ in case, space or punctuation.

    Compatible forms of Unicode are one (NFKC), accents that belong to a letter stay.
    """
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return "".join(one for one in plain if unicodedata.category(one)[0] in "LNM" and not "\ufe00" <= one <= "\ufe0f")


def split_of(text: str, *, seed: int, development: float, test: float) -> Split:
    """Return the split of a speech: a seeded hash of its folded text, whatever its file, its place or its id.

    Args:
        text: The speech.
        seed: The run seed.
        development: Expected share of development speeches, 0 to 1.
        test: Expected share of test speeches, 0 to 1.
    """
    share = derive_seed(seed, "split", fold_speech(text)) / SEED_LIMIT
    if share < test:
        return "test"
    return "development" if share < test + development else "train"


def load_speeches(settings: SpeechSettings, *, seed: int) -> Speeches:
    """Read, clean and split the speeches of a run.

    Copies after folding, then near-duplicates, leave the longest of their kind, so that which files come first, and
    in which order their rows, changes no speech and no split. Differs from the paper, whose way of removing
    duplicates is not published.

    Args:
        settings: Files and limits.
        seed: Of the splits.

    Raises:
        UserError: A file cannot be read or lacks `speech`; a text is no text; two different speeches have one id; or
            a split would be empty.
    """
    left_out = dict.fromkeys(REASONS, 0)
    rows = 0
    candidates: list[_Candidate] = []
    for candidate, reason in _candidates(settings):
        rows += 1
        if reason is None:
            candidates.append(candidate)
        else:
            left_out[reason] += 1
    unlike = _without_copies(candidates)
    left_out[SAME] = len(candidates) - len(unlike)
    kept = _without_near_duplicates(unlike, settings.near_duplicates)
    _require_own_ids(kept)
    left_out[NEAR] = len(unlike) - len(kept)
    shares = {"development": settings.development, "test": settings.test}
    speeches = tuple(
        Speech(one.id, one.text, one.topic, split_of(one.text, seed=seed, **shares))
        for one in sorted(kept, key=lambda one: one.place)
    )
    found = Speeches(speeches, rows, left_out)
    _require_splits(found, shares)
    return found


def _candidates(settings: SpeechSettings) -> Iterator[tuple[_Candidate, str | None]]:
    """Yield every row, and why it cannot be used where that is so."""
    place = 0
    for path in settings.files:
        for number, row in enumerate(iter_table(path), 1):
            candidate = _candidate(row, settings.fields, path=path, number=number, place=place)
            place += 1
            yield candidate, _unfit(candidate, settings)


def _candidate(row: Mapping[str, Any], fields: Mapping[str, str], *, path: Path, number: int, place: int) -> _Candidate:
    where = f"{path}, row {number}"
    name = fields.get("speech", "speech")
    name = name if name in row else "speech"
    if name not in row:
        raise UserError(
            f"{where}: no speech",
            value=sorted(row),
            fix="name the field that holds it: --fields speech=YOURS, or `fields: {speech: YOURS}` in a recipe",
        )
    text = "" if row[name] is None else row[name]
    if not isinstance(text, str):
        raise UserError(f"{where}: a speech must be text", value=text)
    given = _mapped(row, fields, "id")
    if given is not None and (isinstance(given, bool) or not isinstance(given, (str, int))):
        raise UserError(f"{where}: an id must be an integer or text", value=given)
    topic = _mapped(row, fields, "topic")
    text = text.strip()
    key = fold_speech(text)
    identity = sha256(key.encode()).hexdigest()[:12] if given is None or given == "" else str(given)
    return _Candidate(identity, text, "" if topic is None else str(topic), key, place, where)


def _mapped(row: Mapping[str, Any], fields: Mapping[str, str], name: str) -> Any:
    yours = fields.get(name, name)
    return row[yours] if yours in row else row.get(name)


def _unfit(candidate: _Candidate, settings: SpeechSettings) -> str | None:
    if not candidate.key:
        return NO_TEXT
    if len(candidate.text) < settings.min_characters:
        return SHORT
    return LONG if len(candidate.text) > settings.max_characters else None


def _without_copies(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """Return one candidate of each folded text, longest folded text first; of copies the first by text and id."""
    first: dict[str, _Candidate] = {}
    for one in sorted(candidates, key=lambda one: (-len(one.key), one.key, one.text, one.id, one.topic)):
        first.setdefault(one.key, one)
    return list(first.values())


def _require_own_ids(candidates: Sequence[_Candidate]) -> None:
    seen: dict[Hashable, _Candidate] = {}
    for one in sorted(candidates, key=lambda one: one.place):
        other = seen.setdefault(one.id, one)
        if other is not one:
            raise UserError(
                f"{other.where} and {one.where.rpartition('/')[2]}: two different speeches have one id",
                value=one.id,
                fix="give each its own, or leave the field out: a hash of the text then makes the id",
            )


def _without_near_duplicates(candidates: Sequence[_Candidate], threshold: float | None) -> list[_Candidate]:
    """Return the candidates without those that resemble an earlier one.

    MinHash LSH proposes, with a bias to propose too many; the exact similarity of the sets decides.
    """
    if threshold is None:
        return list(candidates)
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, weights=(0.1, 0.9))
    kept: list[_Candidate] = []
    for one in candidates:
        shingles = _shingles(one.key)
        sketch = MinHash(num_perm=PERMUTATIONS, seed=1)
        sketch.update_batch([shingle.encode() for shingle in sorted(shingles)])
        near = (_shingles(kept[place].key) for place in index.query(sketch))
        if any(_jaccard(shingles, other) >= threshold for other in near):
            continue
        index.insert(len(kept), sketch)
        kept.append(one)
    return kept


def _shingles(key: str) -> set[str]:
    return {key[start : start + SHINGLE] for start in range(max(1, len(key) - SHINGLE + 1))}


def _jaccard(first: set[str], second: set[str]) -> float:
    shared = len(first & second)
    return shared / (len(first) + len(second) - shared)


def _require_splits(found: Speeches, shares: Mapping[str, float]) -> None:
    wanted = [split for split in SPLITS if split == "train" or shares[split] > 0]
    empty = [split for split in wanted if not found.splits[split]]
    if empty:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in found.left_out.items() if count)
        raise UserError(
            f"too few speeches: none for {' and '.join(empty)}",
            value=len(found.speeches),
            why=f"{found.rows:,} rows were read; left out: {reasons or 'none'}",
            fix="give more speeches, other limits or other shares; with very few, another seed",
        )
