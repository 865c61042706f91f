"""Human labels of any file as preferences, and which of them may be learnt from while others are reported on.

Two generic formats are read: pairs (``prompt`` with ``better``, ``worse`` or ``chosen``, ``rejected``) and rated
responses (``context``, ``response``, ``score``; these also as CSV).

Files of one field overlap: the same post, the same answer, the same client come back under other ids. Rows that share a
prompt, a response or a group are therefore linked, links are followed to their end, and no row is learnt from
while a row that it is linked with is reported on. Texts are compared without case, spaces and punctuation.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from strop.errors import UserError
from strop.judging.fitting.features import Response
from strop.judging.pairs import HumanPair, folded, prompt_group, prompt_words, read_pair_file
from strop.records.rows import Identifier, Row, prompt_from_json
from strop.records.tables import iter_table

PAIR_FORMATS = ("prompt, better, worse", "prompt, chosen, rejected")
RATED_FORMAT = "context, response, score"


@dataclass(frozen=True, slots=True)
class Preference:
    """People put one response above another; the two may answer different prompts.

    Attributes:
        id: Unique within its file.
        better: The response that they put first.
        worse: The other one.
        groups: The groups that the two belong to.
        source: Where it comes from, for reports.
    """

    id: Identifier
    better: Response
    worse: Response
    groups: tuple[str, ...]
    source: str

    def texts(self) -> frozenset[str]:
        """Return its folded texts: prompts and responses."""
        texts = (text for side in (self.better, self.worse) for text in (side.prompt, side.text))
        return frozenset(filter(None, map(folded, texts)))

    def text_hashes(self) -> frozenset[str]:
        """Return the SHA-256 of each folded text, as `strop.judging.pairs.text_hashes` does: to know them again."""
        return frozenset(hashlib.sha256(text.encode()).hexdigest() for text in self.texts())


@dataclass(frozen=True, slots=True)
class Rated:
    """A response with a score that people gave it, higher is better."""

    id: Identifier
    response: Response
    score: float
    group: str
    source: str


@dataclass(frozen=True, slots=True)
class LabelFile:
    """What one file brought.

    Attributes:
        path: The file.
        rows: Its rows.
        preferences: What can be learnt from.
        left_out: Rows that bring none, by reason.
        renamed: The wanted names that a rename brought.
    """

    path: Path
    rows: int
    preferences: tuple[Preference, ...]
    left_out: Mapping[str, int]
    renamed: frozenset[str]


def preference_of(pair: HumanPair) -> Preference:
    """Return a human pair as a preference."""
    prompt = prompt_words(pair.prompt)
    return Preference(pair.id, Response(prompt, pair.better), Response(prompt, pair.worse), (pair.group,), pair.source)


def read_labels(
    path: Path, *, fields: Mapping[str, str] | None = None, across: bool = False, seed: int = 0
) -> LabelFile:
    """Read a file of human labels, pairs or rated responses; its first row tells which.

    Args:
        path: A table.
        fields: Renames, wanted name to the file's name; those of fields that this file lacks are passed over, so that
            one mapping serves files of different shapes.
        across: Match rated responses of different contexts too, where none of the same is left; see `match`.
        seed: Of the matching.

    Raises:
        UserError: The file cannot be read, has no rows, or its rows are neither of the two formats.
    """
    first = next(iter_table(path), None)
    if first is None:
        raise UserError("a file of labels without rows", value=str(path))
    renames = {wanted: given for wanted, given in (fields or {}).items() if given in first}
    names = set(first) - set(renames.values()) | set(renames)
    if {"better", "worse"} <= names or {"chosen", "rejected"} <= names:
        pairs = read_pair_file(path, renames)
        found = tuple(map(preference_of, pairs.pairs))
        rows = len(found) + sum(pairs.left_out.values())
        return LabelFile(path, rows, found, pairs.left_out, frozenset(renames))
    if {"response", "score"} <= names and names & {"context", "prompt"}:
        return _rated_file(path, renames, across=across, random=Random(seed))
    raise UserError(
        f"{path}: its rows are neither pairs nor rated responses",
        value=", ".join(sorted(map(str, names))),
        fix="map its fields, for example --extra-fields response=answer",
        alternatives=(*PAIR_FORMATS, RATED_FORMAT),
    )


def _rated_file(path: Path, fields: Mapping[str, str], *, across: bool, random: Random) -> LabelFile:
    rated: list[Rated] = []
    left_out: Counter[str] = Counter()
    count = 0
    for count, row in enumerate(iter_table(path, fields=fields), 1):
        context = _text(row, "context" if "context" in row else "prompt", path, count)
        response, score = _text(row, "response", path, count), _score(row, path, count)
        if not response.strip() or score is None:
            left_out["an empty response" if score is not None else "no score"] += 1
            continue
        group = str(row["group"]) if row.get("group") not in (None, "") else prompt_group(context)
        source = str(row.get("source") or path.name.split(".")[0])
        rated.append(Rated(row.get("id", count), Response(context, response), score, group, source))
    found, alone = _match_each(rated, lambda each: (each.source, folded(each.response.prompt)), random)
    if across:
        crossed, alone = _match_each(alone, lambda each: each.source, random)
        found += crossed
    if alone:
        left_out["no partner" if across else "no other response to the same context with another score"] = len(alone)
    return LabelFile(path, count, tuple(found), dict(left_out), frozenset(fields))


def _text(row: Row, name: str, path: Path, number: int) -> str:
    if row.get(name) is None:
        raise UserError(f"{path}, row {number}: no {name!r}", alternatives=sorted(map(str, row)))
    return prompt_words(prompt_from_json(row[name]))


def _score(row: Row, path: Path, number: int) -> float | None:
    given = row.get("score")
    if given is None or given == "":
        return None
    try:
        score = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        raise UserError(f"{path}, row {number}: a score must be a number", value=given)
    return score


def _match_each(
    rated: Sequence[Rated], key: Callable[[Rated], Hashable], random: Random
) -> tuple[list[Preference], list[Rated]]:
    shelves: dict[Hashable, list[Rated]] = defaultdict(list)
    for each in rated:
        shelves[key(each)].append(each)
    found: list[Preference] = []
    alone: list[Rated] = []
    for shelf in shelves.values():
        pairs, rest = match(shelf, random)
        found += pairs
        alone += rest
    return found, alone


def match(rated: Sequence[Rated], random: Random) -> tuple[list[Preference], list[Rated]]:
    """Pair responses of different scores, each at most once, as many as can be.

    Sorted by score (equal ones shuffled), each of the lower half meets its counterpart of the upper half. Two answers
    to one message so make a clean pair; a pair of different contexts says less, since part of the difference is the
    context's, but it makes labels usable that have no second answer.

    Returns:
        The pairs, and the responses that are in none.
    """
    ordered = sorted(random.sample(rated, len(rated)), key=lambda each: each.score)
    half = len(ordered) // 2
    found: list[Preference] = []
    alone = ordered[half : len(ordered) - half]
    for low, high in zip(ordered[:half], ordered[len(ordered) - half :], strict=True):
        if low.score < high.score and folded(low.response.text) != folded(high.response.text):
            found.append(_preference(high, low))
        else:
            alone += [low, high]
    return found, alone


def _preference(better: Rated, worse: Rated) -> Preference:
    groups = tuple(sorted({better.group, worse.group}))
    return Preference(f"{better.id} > {worse.id}", better.response, worse.response, groups, better.source)


def linked(preferences: Sequence[Preference]) -> list[int]:
    """Return the number of the family of each row: rows linked directly or through others have the same.

    Args:
        preferences: Rows of all files together.

    Returns:
        One number a row, the position of the family's first row.
    """
    parent = list(range(len(preferences)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first_with: dict[object, int] = {}
    for row, preference in enumerate(preferences):
        for link in (*preference.texts(), *(("group", group) for group in preference.groups)):
            one, other = sorted((root(first_with.setdefault(link, row)), root(row)))
            parent[other] = one
    return [root(row) for row in range(len(preferences))]


def families_of(rows: Iterable[int], families: Sequence[int]) -> frozenset[int]:
    """Return the families that the given rows belong to."""
    return frozenset(families[row] for row in rows)
