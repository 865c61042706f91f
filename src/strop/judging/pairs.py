"""Pairs that people labelled: read from any file, flagged for slices, and handed to judges with the label hidden."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from strop.errors import UserError
from strop.judging.judge import Duel
from strop.records.rows import Identifier, Prompt, prompt_from_json, prompt_to_json
from strop.records.tables import iter_table

Side = Literal["first", "second"]

LENGTH_MATCHED = 0.2
"""Two responses are length-matched when their word counts differ by at most this share of the longer one."""

SIDES = (("better", "worse"), ("chosen", "rejected"))

# Finds the prompts that deserve a slice of their own. It is no safety screen: it misses what is hinted at.
_RISK = re.compile(
    r"suicid|self[- ]?harm|\b(?:kill|hurt|harm|cut)(?:ing|ting)? (?:my|him|her|your|them)(?:self|selves)\b"
    r"|\bend(?:ing)? (?:my|his|her|their) life\b|\btak(?:e|ing) (?:my|his|her|their) own life\b"
    r"|\b(?:want|wish|wanted|going) to die\b|\bbetter off dead\b|\boverdos"
    r"|\bdon'?t want to (?:live|be here|be alive)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class HumanPair:
    """Two responses to one prompt, and which one people preferred.

    Attributes:
        id: The row's id, or its number in the file.
        prompt: Text, or the conversation so far.
        better: The response that people preferred.
        worse: The other one.
        group: What is resampled and split as a whole: a client, a conversation, a prompt.
        source: Where the label comes from.
        label_strength: How far the label can be trusted, in the file's own words; None where it does not say.
        length_matched: Whether the two are about equally long; see `LENGTH_MATCHED`.
        risk_language: Whether the prompt speaks of suicide, self-harm or overdose.
        better_origin: Who wrote the better response: a model's name, or a text that begins with "human".
        worse_origin: Who wrote the other one.
    """

    id: Identifier
    prompt: Prompt
    better: str
    worse: str
    group: str
    source: str
    label_strength: str | None
    length_matched: bool
    risk_language: bool
    better_origin: str | None = None
    worse_origin: str | None = None


@dataclass(frozen=True, slots=True)
class PairFile:
    """What a file of pairs held.

    Attributes:
        pairs: The usable pairs, in the file's order.
        left_out: Rows that cannot be judged, counted by reason.
        computed: Flags that the file lacks and that a rule filled in.
    """

    pairs: list[HumanPair]
    left_out: Mapping[str, int]
    computed: tuple[str, ...]


def read_pairs(path: Path, fields: Mapping[str, str] | None = None) -> list[HumanPair]:
    """Return the usable pairs of a file; see `read_pair_file`."""
    return read_pair_file(path, fields).pairs


def read_pair_file(path: Path, fields: Mapping[str, str] | None = None) -> PairFile:
    """Read human pairs from JSONL, JSON or Parquet.

    A row holds `prompt` with `better` and `worse` (or `chosen` and `rejected`); responses may be one assistant message.
    Optional: `id`, `group`, `source`, `label_strength`, `length_matched`, `risk_language`, `better_origin`,
    `worse_origin`. Without `group` every prompt, folded, is a group of its own; without the two flags the rules of this
    module fill them in. Rows with an empty text or with two equal responses are left out and counted.

    Args:
        path: The table.
        fields: Renames, wanted name to the file's name.

    Raises:
        UserError: The file or a field is missing or mistyped, an id occurs twice, `group` is given in some rows only,
            or no pair is left.
    """
    rows = list(iter_table(path, fields=fields))
    if not rows:
        raise UserError(f"{path}: no pairs in this file")
    grouped = [row.get("group") is not None for row in rows]
    if any(grouped) and not all(grouped):
        number = grouped.index(False) + 1
        raise UserError(
            f"{path}, row {number}: 'group' is missing here and given elsewhere",
            fix="give every row a group, or none: each prompt is a group of its own then",
        )
    left_out: Counter[str] = Counter()
    pairs: list[HumanPair] = []
    for number, row in enumerate(rows, 1):
        pair = _pair(row, number=number, where=f"{path}, row {number}", source=path.name.split(".")[0])
        reason = _unusable(pair)
        if reason is None:
            pairs.append(pair)
        else:
            left_out[reason] += 1
    _check_ids(pairs, path)
    if not pairs:
        raise UserError(f"{path}: no pair can be judged", value=dict(left_out))
    flags = ("group", "length_matched", "risk_language")
    return PairFile(pairs, dict(left_out), tuple(name for name in flags if any(row.get(name) is None for row in rows)))


def _check_ids(pairs: Sequence[HumanPair], path: Path) -> None:
    twice = [key for key, count in Counter(pair.id for pair in pairs).items() if count > 1]
    if twice:
        raise UserError(f"{path}: an id occurs more than once", value=twice[0], fix="give every pair its own id")


def _pair(row: Mapping[str, Any], *, number: int, where: str, source: str) -> HumanPair:
    names = next((names for names in SIDES if names[0] in row and names[1] in row), None)
    if names is None or "prompt" not in row:
        raise UserError(
            f"{where}: a pair needs 'prompt' with 'better' and 'worse', or with 'chosen' and 'rejected'",
            value=sorted(row),
            fix="map the file's fields with --fields better=YOURS",
        )
    better, worse = (_response(row[name], f"{where}, {name!r}") for name in names)
    prompt = prompt_from_json(row["prompt"])
    matched = _flag(row, "length_matched", where)
    risk = _flag(row, "risk_language", where)
    group = row.get("group")
    return HumanPair(
        id=row["id"] if isinstance(row.get("id"), (int, str)) else number,
        prompt=prompt,
        better=better,
        worse=worse,
        group=prompt_group(prompt) if group is None else str(group),
        source=_optional(row, "source", where) or source,
        label_strength=_optional(row, "label_strength", where),
        length_matched=are_length_matched(better, worse) if matched is None else matched,
        risk_language=has_risk_language(prompt) if risk is None else risk,
        better_origin=_optional(row, "better_origin", where),
        worse_origin=_optional(row, "worse_origin", where),
    )


def _response(value: object, where: str) -> str:
    if isinstance(value, (list, tuple)) and len(value) == 1 and isinstance(value[0], Mapping):
        value = value[0].get("content")
    if not isinstance(value, str):
        raise UserError(f"{where}: a response must be text or one assistant message", value=value)
    return value


def _flag(row: Mapping[str, Any], name: str, where: str) -> bool | None:
    value = row.get(name)
    if value is not None and not isinstance(value, bool):
        raise UserError(f"{where}: {name!r} must be true or false", value=value)
    return value


def _optional(row: Mapping[str, Any], name: str, where: str) -> str | None:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise UserError(f"{where}: {name!r} must be text", value=value)
    return value or None


def _unusable(pair: HumanPair) -> str | None:
    if not all(text.strip() for text in (prompt_words(pair.prompt), pair.better, pair.worse)):
        return "empty text"
    return "identical sides" if pair.better.strip() == pair.worse.strip() else None


def prompt_words(prompt: Prompt) -> str:
    """Return a prompt as plain text: the text itself, or its turns, one a line."""
    return prompt if isinstance(prompt, str) else "\n".join(turn.content for turn in prompt)


def prompt_group(prompt: Prompt) -> str:
    """Return the group of a prompt that has none: a hash of its folded text."""
    return f"prompt:{_sha256(folded(prompt_words(prompt)))[:16]}"


def word_count(text: str) -> int:
    """Return the number of words: runs without white space."""
    return len(text.split())


def are_length_matched(first: str, second: str) -> bool:
    """Say whether two responses are about equally long; see `LENGTH_MATCHED`."""
    shorter, longer = sorted((word_count(first), word_count(second)))
    return longer - shorter <= LENGTH_MATCHED * longer


def has_risk_language(prompt: Prompt) -> bool:
    """Say whether a prompt speaks of suicide, self-harm or overdose in plain words."""
    return _RISK.search(prompt_words(prompt).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")) is not None


def folded(text: str) -> str:
    """Return `text` without case, accents of form, punctuation and runs of space: what makes two texts the same."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def pair_hash(pair: HumanPair) -> str:
    """Return the SHA-256 of the folded prompt and the two folded responses; the label does not enter."""
    sides = sorted((folded(pair.better), folded(pair.worse)))
    return _sha256(json.dumps([folded(prompt_words(pair.prompt)), *sides], ensure_ascii=False))


def text_hashes(pair: HumanPair) -> tuple[str, str, str]:
    """Return the SHA-256 of each folded text: prompt, better, worse.

    A fitted judge records those that it learnt from; a pair that shares one of them is not new to it.
    """
    prompt, better, worse = (_sha256(folded(text)) for text in (prompt_words(pair.prompt), pair.better, pair.worse))
    return prompt, better, worse


def data_hash(pairs: Iterable[HumanPair]) -> str:
    """Return the hash of everything about `pairs` that figures depend on; neither their order nor their ids do."""
    lines = []
    for pair in pairs:
        row = {**asdict(pair), "prompt": prompt_to_json(pair.prompt)}
        del row["id"]
        lines.append(json.dumps(row, sort_keys=True, ensure_ascii=False))
    return _sha256("\n".join(sorted(lines)))


def duel_of(pair: HumanPair, *, seed: int = 0) -> Duel:
    """Return the pair as a judge sees it, its label hidden.

    Which response comes first is drawn from a hash of the seed, the prompt and the two texts in an order that knows
    nothing of the label, so that no judge can profit from a habit of position and no row moves when others do.
    """
    texts = sorted((pair.better, pair.worse))
    drawn = hashlib.sha256("\0".join([str(seed), prompt_words(pair.prompt), *texts]).encode()).digest()
    first, second = reversed(texts) if drawn[0] & 1 else texts
    return Duel(pair.id, pair.prompt, first, second)


def better_side(pair: HumanPair, duel: Duel) -> Side:
    """Return the side of `duel` that people preferred."""
    return "first" if duel.first == pair.better else "second"


def few_of(pairs: Sequence[HumanPair], count: int) -> list[HumanPair]:
    """Return `count` pairs drawn by their hash: a mixture of all sources, the same whatever the order of the file."""
    return sorted(pairs, key=lambda pair: (pair_hash(pair), str(pair.id)))[:count]
