"""Responses to grade, read from the shapes that answer files have.

* ``id, response`` with an optional ``gold``: one response a row;
* ``id, responses`` with an optional ``gold``: several samples of one prompt;
* the nested form of OpenAI's GSM8K example solutions: ``question, ground_truth`` and one object per model with
  ``solution`` and ``is_correct``: every model's solution is graded.

Fields may be mapped from anywhere in a row by dotted paths (``response=6b_finetuning.solution``). Rows without an id
get their line number, counted from 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from strop.errors import UserError
from strop.records.rows import Identifier, Row

_ABSENT = object()


class Response(NamedTuple):
    """One response to grade.

    Attributes:
        id: The row's id.
        text: The response, or None where the model gave none.
        gold: The gold answer, or a worked solution that ends with it; None where there is none.
        model: Which model of a nested row it is.
        sample: Which of several responses it is, from 0.
        published_pred: The answer that the file itself states, for comparison.
        published_result: The flag that the file itself states, for comparison.
    """

    id: Identifier
    text: str | None
    gold: str | None = None
    model: str | None = None
    sample: int | None = None
    published_pred: str | None = None
    published_result: bool | None = None


def read_responses(rows: Iterable[Row], fields: Mapping[str, str] | None = None) -> Iterator[Response]:
    """Yield the responses of a table, one by one.

    Args:
        rows: The table's rows.
        fields: Wanted field name to the file's, as dotted paths.

    Raises:
        UserError: A row has no response, or a field is not of the kind that it must be; the row is named.
    """
    for number, row in enumerate(rows):
        yield from _responses(_Fields(row, dict(fields or {}), number))


@dataclass(frozen=True, slots=True)
class _Fields:
    """The fields of one row under the names that grading uses."""

    row: Row
    mapped: dict[str, str]
    number: int

    @property
    def where(self) -> str:
        return f"row {self.number + 1}"

    def get(self, name: str) -> Any:
        """Return a field, or `_ABSENT`; a field that was mapped explicitly must exist."""
        path = self.mapped.get(name)
        if path is None:
            return self.row.get(name, _ABSENT)
        value = _at(self.row, path)
        if value is _ABSENT:
            raise UserError(
                f"{self.where}: no field {path!r} to use as {name!r}", alternatives=[*_paths(self.row)][:20]
            )
        return value

    def id(self) -> Identifier:
        value = self.get("id")
        if value is _ABSENT:
            return self.number
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise UserError(f"{self.where}: an id must be an integer or text", value=value)
        return value

    def gold(self) -> str | None:
        value = self.get("gold")
        if value is _ABSENT or value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise UserError(f"{self.where}: a gold answer must be text or a number", value=value)
        return str(value)

    def published(self) -> tuple[str | None, bool | None]:
        pred, result = self.get("pred"), self.get("result")
        return (pred if isinstance(pred, str) else None), (result if isinstance(result, bool) else None)


def _responses(fields: _Fields) -> Iterator[Response]:
    response, samples = fields.get("response"), fields.get("responses")
    if response is not _ABSENT:
        pred, result = fields.published()
        text = _text(response, fields.where)
        yield Response(fields.id(), text, fields.gold(), published_pred=pred, published_result=result)
    elif samples is not _ABSENT:
        if not isinstance(samples, (list, tuple)):
            raise UserError(f"{fields.where}: 'responses' must be a list of texts", value=samples)
        identifier, gold, where = fields.id(), fields.gold(), fields.where
        for number, sample in enumerate(samples):
            yield Response(identifier, _text(sample, where), gold, sample=number)
    else:
        yield from _nested(fields)


def _nested(fields: _Fields) -> Iterator[Response]:
    """Expand a row of OpenAI's example solutions into one response per model, in the file's order."""
    models = {name: value for name, value in fields.row.items() if isinstance(value, Mapping) and "solution" in value}
    if not models:
        raise UserError(
            f"{fields.where}: there is no response to grade",
            value=sorted(fields.row),
            fix="map the field that holds it with --fields response=YOURS",
        )
    gold = fields.gold() if "gold" in fields.mapped else fields.row.get("ground_truth")
    for name, value in models.items():
        flag = value.get("is_correct")
        yield Response(
            fields.id(),
            _text(value["solution"], f"{fields.where}, {name}"),
            gold,
            model=name,
            published_result=flag if isinstance(flag, bool) else None,
        )


def _text(value: object, where: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise UserError(f"{where}: a response must be text", value=value)


def _at(row: Row, path: str) -> Any:
    """Return the value at a dotted path; a field whose own name holds the dots comes first."""
    if path in row:
        return row[path]
    value: Any = row
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _ABSENT
        value = value[part]
    return value


def _paths(row: Row) -> Iterator[str]:
    for name, value in row.items():
        yield name
        if isinstance(value, Mapping):
            yield from (f"{name}.{inner}" for inner in value)
