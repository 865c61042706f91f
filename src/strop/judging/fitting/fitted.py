"""A judge that is a weight vector on a frozen encoder: no language model, no parsing, no position to prefer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from strop.errors import UserError
from strop.judging.fitting.features import BLOCKS, Response, block_matrices, blocks_of
from strop.judging.judge import Comparison, Duel
from strop.judging.pairs import HumanPair, prompt_words, text_hashes
from strop.judging.parsing import Verdict
from strop.models.embedding import Embedder, open_embedder
from strop.records.rows import Prompt
from strop.records.tables import atomic_path

JUDGE_NAME = "judge.json"
WEIGHTS_NAME = "weights.safetensors"
KIND = "fitted"
SCHEMA = 1

Vector = NDArray[np.float64]


class Description(BaseModel):
    """What `judge.json` says: everything about a fitted judge but its weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str = KIND
    schema_version: int = SCHEMA
    name: str
    features: str
    """Blocks of features joined by ``+``."""
    c: float = Field(gt=0)
    extra_weight: float = Field(ge=0)
    encoder: str
    """As it was given: ``builtin:minilm`` or a folder."""
    encoder_revision: str
    weights_hash: str
    """SHA-256 of the weights as little-endian float64."""
    pairs: int
    groups: int
    extra: int
    """Extra labels that the weights learnt from."""
    grid: str
    grid_hash: str
    seed: int
    strop: str
    """The version that fitted it."""
    trained_on: tuple[str, ...]
    """SHA-256 of every folded text that the weights learnt from, see `strop.judging.pairs.text_hashes`."""


@dataclass(frozen=True)
class FittedJudge:
    """Scores a response to a prompt; of two responses the one with the higher score is the better.

    Implements `strop.judging.judge.PairJudge`. Exchanging the two responses of a duel turns the sign of the score's
    difference exactly, so both orders always agree.

    Attributes:
        description: What it is and what it learnt from.
        weights: float64 ``(width,)``, of the features as they come.
        embedder: The encoder whose vectors the weights expect.
    """

    description: Description
    weights: Vector
    embedder: Embedder

    @property
    def name(self) -> str:
        """What to call the judge in a report."""
        return self.description.name

    @property
    def revision(self) -> str:
        """Hash of the weights, the features and the encoder."""
        parts = (KIND, self.description.features, self.description.weights_hash, self.embedder.revision)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def scores(self, responses: Sequence[Response]) -> Vector:
        """Return the score of each response; a difference of two is the log-odds that people prefer the first.

        Scores of responses to different prompts may be compared for ranking only where the judge was fitted across
        contexts; else only their differences within a prompt have a meaning.
        """
        if not responses:
            return np.zeros(0)
        blocks = blocks_of(self.description.features)
        matrices = block_matrices(responses, blocks, self.embedder)
        columns = np.concatenate([matrices[block] for block in blocks], axis=1)
        # Not a matrix product: there the last bits of a row depend on its place, and swapped sides must agree to all.
        total: Vector = (columns * self.weights).sum(axis=1)
        return total

    def score(self, prompt: Prompt, response: str) -> float:
        """Return the score of one response; see `scores`."""
        return float(self.scores([Response(prompt_words(prompt), response)])[0])

    def compare(self, items: Sequence[Duel]) -> list[Comparison]:
        """Return one comparison a duel; `strength` is the fitted probability that people prefer the first side."""
        prompts = [prompt_words(duel.prompt) for duel in items]
        firsts = [Response(prompt, duel.first) for prompt, duel in zip(prompts, items, strict=True)]
        seconds = [Response(prompt, duel.second) for prompt, duel in zip(prompts, items, strict=True)]
        scores = self.scores([*firsts, *seconds])
        differences = scores[: len(items)] - scores[len(items) :]
        return [_comparison(duel, float(difference)) for duel, difference in zip(items, differences, strict=True)]

    def seen(self, pair: HumanPair) -> bool:
        """Say whether the weights learnt from a text of this pair: then its verdict on the pair proves nothing."""
        return not self._known.isdisjoint(text_hashes(pair))

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.description.trained_on)

    def save(self, folder: Path) -> None:
        """Write `judge.json` and `weights.safetensors`, the description last: a folder without it is no judge."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / WEIGHTS_NAME) as part:
            save_file({"weights": self.weights}, part)
        with atomic_path(folder / JUDGE_NAME) as part:
            part.write_text(self.description.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, *, encoder: str | None = None, cache: Path | None = None) -> FittedJudge:
        """Read a judge from its folder; the encoder itself is loaded with the first new text.

        Args:
            folder: Where `save` put it.
            encoder: Where its encoder is now, if it has moved since; its revision must be the same.
            cache: Where vectors are kept; the user's cache folder by default.

        Raises:
            UserError: A file is missing, damaged or of a newer strop, or the encoder is missing or another one.
        """
        description = read_description(folder)
        weights = _read_weights(folder, description)
        embedder = open_embedder(description.encoder if encoder is None else encoder, cache=cache)
        if embedder.revision != description.encoder_revision:
            raise UserError(
                f"{folder}: the judge was fitted on another revision of its encoder",
                value=f"{embedder.name}, revision {embedder.revision[:12]}",
                why=f"its weights belong to vectors of revision {description.encoder_revision[:12]}",
                fix="bring back that encoder, or fit the judge again: strop judge fit",
            )
        return cls(description, weights, embedder)


def weights_hash(weights: Vector) -> str:
    """Return the SHA-256 of weights as little-endian float64."""
    return hashlib.sha256(weights.astype("<f8").tobytes()).hexdigest()


def _comparison(duel: Duel, difference: float) -> Comparison:
    verdict: Verdict = "first" if difference > 0 else "second" if difference < 0 else "tie"
    strength = float(1 / (1 + np.exp(-difference))) if difference >= 0 else 1 - float(1 / (1 + np.exp(difference)))
    return Comparison(duel.id, verdict, forward=verdict, backward=verdict, strength=strength)


def read_description(folder: Path) -> Description:
    """Return what `judge.json` in `folder` says.

    Raises:
        UserError: It is missing, damaged, or of a newer strop.
    """
    path = folder / JUDGE_NAME
    if not path.is_file():
        raise UserError(
            "no fitted judge in this folder", value=str(folder), fix="strop judge fit --out FOLDER makes one"
        )
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(found, dict) or found.get("kind") != KIND:
        raise _damaged(path, "it does not describe a fitted judge")
    version = found.get("schema_version")
    if isinstance(version, int) and version > SCHEMA:
        raise UserError(
            f"{path}: written by a newer strop",
            value=f"schema {version}, this strop reads {SCHEMA}",
            fix="update strop, or fit the judge again: strop judge fit",
        )
    try:
        description = Description.model_validate(found)
        blocks_of(description.features)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise _damaged(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except UserError:
        raise _damaged(path, f"features: none of {', '.join(BLOCKS)}") from None
    return description


def _read_weights(folder: Path, description: Description) -> Vector:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = folder / WEIGHTS_NAME
    if not path.is_file():
        raise _damaged(path, "the file is missing")
    try:
        weights = np.asarray(load_file(path)["weights"])
    except (SafetensorError, KeyError, OSError, ValueError) as error:
        raise _damaged(path, str(error)) from None
    if weights.dtype != np.float64 or weights.ndim != 1 or weights_hash(weights) != description.weights_hash:
        raise _damaged(path, f"its weights are not those that {JUDGE_NAME} names")
    return weights


def _damaged(path: Path, why: str) -> UserError:
    return UserError(
        "a damaged fitted judge",
        value=str(path),
        why=why,
        fix="copy the folder again, or fit it again: strop judge fit",
    )
