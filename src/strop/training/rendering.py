"""Rows to tokens: one place where text becomes training input, through the same render as generation and serving.

The prompt's tokens are exactly those that generation feeds to the model. A response follows as it would be generated:
its tokens continue the prompt's, end with one end token, and all of them carry loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from strop.errors import UserError
from strop.models.render import Chat, encode_examples
from strop.records.rows import Identifier, PreferencePair, SupervisedExample
from strop.training.settings import TrainingSettings

IGNORED = -100
"""Label of a token that carries no loss."""


@dataclass(frozen=True, slots=True)
class TokenisedRow:
    """A prompt and its responses (one to learn from; a chosen and a rejected one) as token ids."""

    id: Identifier
    prompt_ids: list[int]
    responses: tuple[list[int], ...]

    @property
    def length(self) -> int:
        """Tokens of the prompt with the longest response."""
        return len(self.prompt_ids) + max(map(len, self.responses))


@dataclass(frozen=True, slots=True)
class TokenisedRows:
    """The rows that are trained on, with what happened to those that were too long."""

    rows: tuple[TokenisedRow, ...]
    dropped: tuple[Identifier, ...]
    truncated: tuple[Identifier, ...]

    @property
    def supervised_tokens(self) -> int:
        """Tokens that carry loss."""
        return sum(len(response) for row in self.rows for response in row.responses)

    @property
    def tokens(self) -> int:
        """All tokens; a pair's prompt counts twice, as it is computed twice."""
        return self.supervised_tokens + sum(len(row.prompt_ids) * len(row.responses) for row in self.rows)


def tokenise(
    tokenizer: Any, rows: Sequence[SupervisedExample | PreferencePair], settings: TrainingSettings
) -> TokenisedRows:
    """Turn rows into tokens and apply the rule for those that are too long.

    Raises:
        UserError: No row is left, one is too long under ``too_long: stop``, or more than the ceiling's share are.
    """
    return within_length(list(_tokenised(tokenizer, rows, settings.chat)), settings)


def within_length(rows: Sequence[TokenisedRow], settings: TrainingSettings) -> TokenisedRows:
    """Apply the rule for rows that are too long; see `tokenise`."""
    kept: list[TokenisedRow] = []
    dropped: list[Identifier] = []
    truncated: list[Identifier] = []
    for row in rows:
        if row.length <= settings.max_length:
            kept.append(row)
        elif settings.too_long == "drop" or len(row.prompt_ids) >= settings.max_length:
            dropped.append(row.id)
        else:
            truncated.append(row.id)
            kept.append(_cut(row, settings.max_length))
    _judge_too_long(len(rows), dropped + truncated, settings)
    if not kept:
        raise UserError("no row to train on", value=f"{len(rows)} rows, {len(dropped)} dropped")
    return TokenisedRows(tuple(kept), tuple(dropped), tuple(truncated))


def _tokenised(
    tokenizer: Any, rows: Sequence[SupervisedExample | PreferencePair], chat: Chat
) -> Iterator[TokenisedRow]:
    turns = [(row.prompt, text) for row in rows for text in _responses(row)]
    pieces = iter(encode_examples(tokenizer, turns, chat=chat))
    for row in rows:
        own = [next(pieces) for _ in _responses(row)]
        yield TokenisedRow(row.id, own[0][0], tuple(response for _, response in own))


def _responses(row: SupervisedExample | PreferencePair) -> tuple[str, ...]:
    return (row.response,) if isinstance(row, SupervisedExample) else (row.chosen, row.rejected)


def _cut(row: TokenisedRow, max_length: int) -> TokenisedRow:
    room = max_length - len(row.prompt_ids)
    return TokenisedRow(row.id, row.prompt_ids, tuple(response[:room] for response in row.responses))


def _judge_too_long(total: int, too_long: Sequence[Identifier], settings: TrainingSettings) -> None:
    share = len(too_long) / max(total, 1)
    if not too_long or (settings.too_long != "stop" and share <= settings.too_long_ceiling):
        return
    shown = ", ".join(map(str, too_long[:5])) + (", ..." if len(too_long) > 5 else "")
    raise UserError(
        f"{len(too_long)} of {total} rows are longer than max_length (ids {shown})",
        value=settings.max_length,
        why=f"too_long: {settings.too_long}, too_long_ceiling: {settings.too_long_ceiling}",
        fix="raise max_length, shorten the rows, or raise too_long_ceiling",
    )


def supervised_columns(rows: TokenisedRows) -> dict[str, list[list[int]]]:
    """Return the columns of an SFT data set: ``input_ids`` and ``labels``, which ignore the prompt."""
    return {
        "input_ids": [row.prompt_ids + row.responses[0] for row in rows.rows],
        "labels": [[IGNORED] * len(row.prompt_ids) + row.responses[0] for row in rows.rows],
    }


def dpo_columns(rows: TokenisedRows) -> dict[str, list[list[int]]]:
    """Return the columns that TRL's DPO collator reads: ``prompt_ids``, ``chosen_ids``, ``rejected_ids``."""
    return {
        "prompt_ids": [row.prompt_ids for row in rows.rows],
        "chosen_ids": [row.responses[0] for row in rows.rows],
        "rejected_ids": [row.responses[1] for row in rows.rows],
    }


def orpo_columns(rows: TokenisedRows) -> dict[str, list[list[int]]]:
    """Return the columns that TRL's ORPO collator reads: ids, attention and labels of both sequences."""
    columns: dict[str, list[list[int]]] = {}
    for side, name in enumerate(("chosen", "rejected")):
        columns[f"{name}_input_ids"] = [row.prompt_ids + row.responses[side] for row in rows.rows]
        columns[f"{name}_attention_mask"] = [[1] * len(ids) for ids in columns[f"{name}_input_ids"]]
        columns[f"{name}_labels"] = [[IGNORED] * len(row.prompt_ids) + row.responses[side] for row in rows.rows]
    return columns
