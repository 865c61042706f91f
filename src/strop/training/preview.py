"""The first rows as training sees them, in colour: what is context, what carries loss, where it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from strop.training.rendering import TokenisedRow, TokenisedRows

if TYPE_CHECKING:
    from rich.text import Text

CONTEXT, SUPERVISED, END = "dim", "green", "bold black on green"


def mask_preview(tokenizer: Any, rows: TokenisedRows, *, count: int = 3) -> Text:
    """Return the first `count` rows, token by token.

    Context is dim, tokens that carry loss are green, the end token is marked; without colour, brackets stand around
    the part that carries loss.

    Args:
        tokenizer: The tokenizer that made the rows.
        rows: Tokenised rows.
        count: How many to show.
    """
    from rich.text import Text

    lines = [
        _line(tokenizer, row, response, label)
        for row in rows.rows[:count]
        for response, label in zip(row.responses, _labels(row), strict=True)
    ]
    return Text("\n").join(lines)


def _labels(row: TokenisedRow) -> tuple[str, ...]:
    return (str(row.id),) if len(row.responses) == 1 else (f"{row.id} chosen", f"{row.id} rejected")


def _line(tokenizer: Any, row: TokenisedRow, response: list[int], label: str) -> Text:
    from rich.text import Text

    line = Text(f"{label}: ", style="bold")
    line.append(" ".join(_shown(tokenizer, row.prompt_ids)), style=CONTEXT)
    line.append(" [", style=SUPERVISED)
    for place, (token, text) in enumerate(zip(response, _shown(tokenizer, response), strict=True)):
        line.append(" " if place else "")
        line.append(text, style=END if token == tokenizer.eos_token_id else SUPERVISED)
    line.append("]", style=SUPERVISED)
    return line


def _shown(tokenizer: Any, ids: list[int]) -> list[str]:
    """Return tokens as they are in the vocabulary; control characters are escaped, so that a row stays one line."""
    tokens = tokenizer.convert_ids_to_tokens(ids)
    return ["".join(char if char.isprintable() else repr(char)[1:-1] for char in token) for token in tokens]
