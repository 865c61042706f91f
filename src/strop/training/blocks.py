"""Plain text as blocks of tokens: packed for training, cut inside each document for perplexity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from strop.errors import UserError
from strop.records.rows import Identifier
from strop.training.rendering import TokenisedRow, TokenisedRows

Document = tuple[Identifier, str]
"""A document's id and its text."""
ENCODED_AT_ONCE = 256


def token_ids(tokenizer: Any, texts: Sequence[str]) -> Iterator[list[int]]:
    """Yield the tokens of each text, without special tokens."""
    for start in range(0, len(texts), ENCODED_AT_ONCE):
        # Documents are longer than the model's context; blocks are not.
        yield from tokenizer(list(texts[start : start + ENCODED_AT_ONCE]), add_special_tokens=False, verbose=False)[
            "input_ids"
        ]


def packed(tokenizer: Any, documents: Sequence[Document], *, length: int) -> TokenisedRows:
    """Return documents, one after the other with an end token behind each, as blocks of equal length.

    A block may hold parts of several documents, which see each other, as in pre-training. What is left over at the end
    fills no block and is not learned.

    Args:
        tokenizer: Of the model.
        documents: In the order in which they are packed.
        length: Tokens of a block, at least 2. All but its first are predicted.

    Raises:
        UserError: The documents fill no block.
    """
    stream = (
        token
        for ids in token_ids(tokenizer, [text for _, text in documents])
        for token in (*ids, tokenizer.eos_token_id)
    )
    blocks = list(_blocks(stream, length))
    if blocks and len(blocks[-1]) < length:
        blocks.pop()
    if not blocks:
        raise UserError("the text fills no block", value=f"{len(documents)} documents", fix="lower max_length")
    return TokenisedRows(tuple(_row(number, block) for number, block in enumerate(blocks)), (), ())


def cut(tokenizer: Any, documents: Iterable[Document], *, length: int, shortest: int = 16) -> list[TokenisedRow]:
    """Return documents cut into blocks that hold one document each, with the document's id: what perplexity reads.

    Args:
        tokenizer: Of the model.
        documents: Held-back documents.
        length: Tokens of a block.
        shortest: A last block with fewer tokens says little and is left out.
    """
    listed = list(documents)
    ids = token_ids(tokenizer, [text for _, text in listed])
    return [
        _row(name, block)
        for (name, _), document in zip(listed, ids, strict=True)
        for block in _blocks(document, length)
        if len(block) >= max(2, shortest)
    ]


def _blocks(tokens: Iterable[int], length: int) -> Iterator[list[int]]:
    stream = iter(tokens)
    while block := list(islice(stream, length)):
        yield block


def _row(name: Identifier, block: list[int]) -> TokenisedRow:
    """A block's first token is given, the others are predicted."""
    return TokenisedRow(name, block[:1], (block[1:],))


def block_ids(row: TokenisedRow) -> list[int]:
    """Return all tokens of a block."""
    return row.prompt_ids + row.responses[0]
