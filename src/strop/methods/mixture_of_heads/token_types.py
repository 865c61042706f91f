"""What kind of text a token is: the start of a word, its continuation, a digit, or a mark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

TokenType = Literal["word start", "continuation", "digit", "punctuation", "other"]
TOKEN_TYPES: tuple[TokenType, ...] = get_args(TokenType)


def token_type(text: str, *, before: str = " ") -> TokenType:
    """Return the type of a token.

    ``" the"`` starts a word, ``"ing"`` continues one, ``" 7"`` is a digit, ``" ("`` punctuation, a line break other.

    Args:
        text: What the token decodes to.
        before: What the token before it decodes to: letters after anything but a letter start a word too.
    """
    core = text.strip()
    if not core:
        return "other"
    if core.isdigit():
        return "digit"
    if not any(sign.isalnum() for sign in core):
        return "punctuation"
    if core[0].isalpha():
        inside = text[0] == core[0] and before[-1:].isalpha()
        return "continuation" if inside else "word start"
    return "other"


def token_types(tokenizer: Any, ids: Sequence[int]) -> list[TokenType]:
    """Return the type of each token of a block; before its first token stands nothing."""
    texts = [tokenizer.decode([one]) for one in ids]
    return [token_type(text, before=before) for text, before in zip(texts, [" ", *texts[:-1]], strict=True)]
