"""From a row of a published file, or of a plain one, to an item; a row that lacks something is named with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strop.errors import UserError
from strop.evaluation.benchmarks.imhi import read_gold, read_query
from strop.evaluation.benchmarks.items import CAUSES, LETTERS, VERDICTS, YES_NO, Family, Item

MEDMCQA_OPTIONS = ("opa", "opb", "opc", "opd")
IMHI_GOLD = ("gold", "gpt-3.5-turbo")
"""Columns with the gold text of an IMHI file; the released ones call it after the model that wrote its explanation."""
LAYOUTS = (
    "question, options, answer",
    "question, options, answer_idx (MedQA, MMLU)",
    "question, opa to opd, cop (MedMCQA)",
    "QUESTION, CONTEXTS, final_decision (PubMedQA)",
    "query, gpt-3.5-turbo or gold (IMHI)",
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands, for messages and where it has no id.

    Attributes:
        where: The file and the number of the row.
        number: The number of the row, from 0.
        part: The slice that rows of this file belong to where they name none.
        first_option: What ``cop`` calls the first option, 0 or 1.
    """

    where: str
    number: int
    part: str
    first_option: int


Reader = Callable[[Mapping[str, Any], Place], tuple[Family, Item]]


def layout_of(row: Mapping[str, Any], where: str) -> Reader:
    """Return what reads rows of this form.

    Raises:
        UserError: The row has none of the known layouts.
    """
    if "query" in row:
        return read_imhi
    if "final_decision" in row:
        return read_pubmedqa
    if "cop" in row or "opa" in row:
        return read_medmcqa
    if "question" in row and ("options" in row or "choices" in row):
        return read_choices
    raise UserError(f"{where}: a row in no known layout", value=sorted(row), alternatives=LAYOUTS)


def read_choices(row: Mapping[str, Any], place: Place) -> tuple[Family, Item]:
    """Read MedQA, MMLU and plain rows: options as a list, or by letter; the answer as a letter or as the option's text.

    Rows with `choices`, as the hub's MMLU has them, count the answer from 0.
    """
    given = row["options"] if "options" in row else row["choices"]
    options = _options(given, place)
    letters = tuple(LETTERS[: len(options)])
    told = row.get("answer_idx", row.get("answer"))
    if "choices" in row and isinstance(told, int) and not isinstance(told, bool):
        told = letters[told] if 0 <= told < len(letters) else told
    gold = _gold_letter(told, letters, options, place)
    answer = row.get("answer")
    if "answer_idx" in row and isinstance(answer, str) and answer not in letters:
        stated = options[letters.index(gold)]
        if answer.strip() != stated.strip():
            raise UserError(f"{place.where}: answer_idx and answer name different options", value=(gold, answer))
    part = next((str(row[name]) for name in ("part", "set", "subject", "subject_name") if row.get(name)), place.part)
    question = _text(row, "question", place)
    return "choice", Item(_id(row, place), question, letters, options, gold, part=part)


def read_medmcqa(row: Mapping[str, Any], place: Place) -> tuple[Family, Item]:
    """Read a MedMCQA row; `cop` counts from `place.first_option`."""
    options = tuple(_text(row, name, place) for name in MEDMCQA_OPTIONS)
    letters = tuple(LETTERS[: len(options)])
    index = cop_of(row, place.where) - place.first_option
    if not 0 <= index < len(options):
        first = place.first_option
        raise UserError(f"{place.where}: cop must be {first} to {first + 3}", value=row["cop"])
    part = str(row.get("subject_name") or place.part)
    question = _text(row, "question", place)
    return "choice", Item(_id(row, place), question, letters, options, letters[index], part=part)


def cop_of(row: Mapping[str, Any], where: str) -> int:
    """Return the number under ``cop``.

    Raises:
        UserError: There is none.
    """
    value = row.get("cop")
    if isinstance(value, str) and value.strip().isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{where}: cop must be the number of the right option", value=value)
    return value


def read_pubmedqa(row: Mapping[str, Any], place: Place) -> tuple[Family, Item]:
    """Read a PubMedQA row. The long answer states the verdict and is never read."""
    question = _text(row, "QUESTION" if "QUESTION" in row else "question", place)
    held = row.get("CONTEXTS", row.get("context"))
    contexts = held.get("contexts") if isinstance(held, Mapping) else held
    sections = _texts(contexts or [], "CONTEXTS", place)
    gold = _text(row, "final_decision", place).strip().lower()
    if gold not in VERDICTS:
        raise UserError(f"{place.where}: final_decision is no verdict", value=gold, alternatives=VERDICTS)
    key = row.get("id", row.get("pubid", place.number))
    return "verdict", Item(_id({"id": key}, place), question, VERDICTS, VERDICTS, gold, sections)


def read_imhi(row: Mapping[str, Any], place: Place) -> tuple[Family, Item]:
    """Read an IMHI row of either format. No message quotes it."""
    query = read_query(_text(row, "query", place))
    if query is None:
        why = 'a query is a post, then "Question:" and the question of CAMS, Dreaddit or IRF'
        raise UserError(f"{place.where}: a query in no known format", why=why)
    column = next((name for name in IMHI_GOLD if name in row), IMHI_GOLD[0])
    gold = read_gold(_text(row, column, place), query.family)
    labels = CAUSES if query.family == "cams" else YES_NO
    if gold is None:
        raise UserError(f"{place.where}: no label before the reasoning of the gold text", alternatives=labels)
    return query.family, Item(_id(row, place), query.question, labels, labels, gold, (query.post,), query.part)


def _id(row: Mapping[str, Any], place: Place) -> int | str:
    value = row.get("id", place.number)
    if isinstance(value, bool) or not isinstance(value, (int, str)) or value == "":
        raise UserError(f"{place.where}: an id must be a whole number or text", value=value)
    return value


def _text(row: Mapping[str, Any], name: str, place: Place) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        problem = "is missing" if name not in row else "must be text"
        raise UserError(f"{place.where}: field {name!r} {problem}", value=sorted(row) if name not in row else value)
    return value


def _texts(values: object, name: str, place: Place) -> tuple[str, ...]:
    if not isinstance(values, Sequence) or isinstance(values, str) or not all(isinstance(one, str) for one in values):
        raise UserError(f"{place.where}: field {name!r} must be a list of texts", value=type(values).__name__)
    return tuple(values)


def _options(given: object, place: Place) -> tuple[str, ...]:
    if isinstance(given, Mapping):
        # Parquet gives every row the letters of all rows, null where a row has none of that name.
        kept = {str(letter): text for letter, text in given.items() if text is not None}
        if list(kept) != list(LETTERS[: len(kept)]):
            raise UserError(f"{place.where}: options must be lettered A, B, C, ... in this order", value=list(kept))
        given = list(kept.values())
    options = _texts(given, "options", place)
    if not 2 <= len(options) <= len(LETTERS):
        raise UserError(f"{place.where}: an item has 2 to {len(LETTERS)} options", value=len(options))
    if not all(option.strip() for option in options):
        raise UserError(f"{place.where}: an option is empty", value=options)
    return options


def _gold_letter(told: object, letters: Sequence[str], options: Sequence[str], place: Place) -> str:
    if isinstance(told, str):
        if told.strip().upper() in letters:
            return told.strip().upper()
        same = [letter for letter, option in zip(letters, options, strict=True) if option.strip() == told.strip()]
        if len(same) == 1:
            return same[0]
    fix = "give its letter, or its text where no other option has the same"
    raise UserError(f"{place.where}: the answer names no single option", value=told, fix=fix, alternatives=letters)
