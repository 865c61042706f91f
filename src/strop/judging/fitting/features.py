"""What a fitted judge sees of a response: its sentence vector, that vector times the prompt's, and its surface.

A language model's hidden states (``mean@20``, see `strop.models.hidden_states`) may stand in an encoder's place. A
feature set is a list of blocks joined by ``+``. Every block is a function of one prompt and one response, so a pair
is the difference of two rows, and exchanging its sides changes nothing but the sign.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strop.errors import UserError
from strop.judging.qualifying.baselines import surface_features
from strop.models.embedding import Embedder
from strop.models.hidden_states import HiddenStates, is_states_block

Matrix = NDArray[np.float64]

BLOCKS = ("embedding", "product", "surface")

Describer = Embedder | HiddenStates
"""What gives the vectors of a response: a sentence encoder, or a language model's hidden states."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response in its place: what a score is a function of."""

    prompt: str
    text: str


def blocks_of(features: str) -> tuple[str, ...]:
    """Return the blocks of a feature set.

    Args:
        features: Names of blocks joined by ``+``, such as ``embedding+surface``.

    Raises:
        UserError: One of them is unknown, or comes twice.
    """
    names = tuple(features.split("+"))
    if len(set(names)) < len(names) or not all(name in BLOCKS or is_states_block(name) for name in names):
        raise UserError("no such set of features", value=features, alternatives=[*BLOCKS, "embedding+surface, ..."])
    return names


def block_matrices(
    responses: Sequence[Response],
    blocks: Sequence[str],
    embedder: Describer,
    *,
    advance: Callable[[int], None] | None = None,
) -> dict[str, Matrix]:
    """Return every asked block for every response.

    Args:
        responses: What to describe, n of them.
        blocks: Names of `BLOCKS`.
        embedder: Gives the vectors; not touched for the surface alone.
        advance: Told the number of further texts embedded.

    Returns:
        By block: float64 ``(n, width)``.

    Raises:
        UserError: Sentence vectors are asked of a language model, or hidden states of an encoder.
    """
    matrices: dict[str, Matrix] = {}
    states = [block for block in blocks if is_states_block(block)]
    vectors_asked = {"embedding", "product"} & set(blocks)
    if isinstance(embedder, HiddenStates):
        if vectors_asked:
            raise UserError("a language model gives no sentence vectors", value=", ".join(sorted(vectors_asked)))
        items = [(response.prompt, response.text) for response in responses]
        found = embedder.encode(items, states, advance=advance) if states else {}
        matrices |= {block: vectors.astype(np.float64) for block, vectors in found.items()}
    elif states:
        raise UserError("an encoder has no hidden states to describe a response by", value=", ".join(states))
    if vectors_asked and isinstance(embedder, Embedder):
        texts = [response.text for response in responses]
        prompts = [response.prompt for response in responses] if "product" in blocks else []
        vectors = embedder.encode(texts + prompts, advance=advance).astype(np.float64)
        matrices["embedding"] = vectors[: len(texts)]
        if prompts:
            matrices["product"] = vectors[: len(texts)] * vectors[len(texts) :]
    if "surface" in blocks:
        matrices["surface"] = np.array([surface_features(response.text) for response in responses])
    return {block: matrices[block] for block in blocks}


def block_scale(block: str, differences: Matrix) -> Matrix:
    """Return what to divide the columns of a block by, learnt from training differences alone.

    Nothing is subtracted: a difference and its mirror image must stay mirror images. Vectors are of length 1 and stay
    as they are; products are brought to a mean squared length of 1 by one number, so that angles keep their meaning;
    the surface columns and hidden states have units of their own and are brought to a mean square of 1 each.

    Args:
        block: Its name.
        differences: float64 ``(n, width)``.

    Returns:
        float64 ``(width,)``, all above 0.
    """
    width = differences.shape[1]
    if block == "embedding":
        return np.ones(width)
    squares = np.mean(differences**2, axis=0)
    if block == "product":
        squares = np.full(width, squares.sum())
    return np.sqrt(np.where(squares > 0, squares, 1.0))
