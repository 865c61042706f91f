"""Texts as vectors: a frozen sentence encoder on this machine, its vectors kept on disk between runs.

An encoder reads only so many tokens (256 for ``builtin:minilm``). A longer text is halved at the whitespace nearest
its middle until every part fits; its vector is the mean of the parts' vectors, weighted by their tokens. All vectors
are brought to length 1. Nothing is cut off, and how many texts were divided is counted.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop.errors import UserError, nearest
from strop.models.builtin import ENCODERS, builtin_encoder, cache_folder
from strop.models.embedding_cache import EmbeddingCache
from strop.models.weights import check_folder, file_hash, folder_revision

Vectors = NDArray[np.float32]
"""One row a text; of length 1, or of length 0 for a text that an encoder maps to nothing."""

LONG_TEXT_RULE = "halves-1"
"""Version of the rule for texts over the window; part of the revision, because it moves vectors."""
TEXTS_AT_ONCE = 64
DEFAULT_WINDOW = 512
MODULE_PATTERNS = ("modules.json", "sentence_*config.json", "config_sentence_transformers.json", "[0-9]*_*/*")


class Embedder:
    """A frozen encoder of one folder.

    Attributes:
        name: As it was asked for.
        revision: Hash of the folder's weights and settings and of the rule for long texts.
    """

    def __init__(self, folder: Path, *, name: str, cache: Path, device: str = "cpu") -> None:
        """Take a checked folder; the encoder itself is loaded when the first text is not in the cache.

        Args:
            folder: In the layout of sentence-transformers, or a plain transformers encoder (mean pooling).
            name: What to call it.
            cache: Folder for the vectors.
            device: Where it runs.
        """
        self.name, self.revision = name, encoder_revision(folder)
        self._folder, self._device = folder, device
        self._cache = EmbeddingCache(cache / f"{self.revision[:32]}.sqlite")
        self._parts: dict[str, int] = {}

    @property
    def texts(self) -> int:
        """How many different texts were asked for."""
        return len(self._parts)

    @property
    def divided(self) -> int:
        """How many of those were over the window and therefore embedded in parts."""
        return sum(parts > 1 for parts in self._parts.values())

    def encode(self, texts: Sequence[str], *, advance: Callable[[int], None] | None = None) -> Vectors:
        """Return one vector a text.

        Args:
            texts: Any number, repeats allowed; each different one is embedded once.
            advance: Told the number of further different texts done.

        Returns:
            float32 ``(n, width)``.
        """
        unique = list(dict.fromkeys(texts))
        known = self._cache.read([_key(text) for text in unique])
        fresh = [text for text in unique if _key(text) not in known]
        if advance:
            advance(len(unique) - len(fresh))
        for batch, vectors, parts in self._embedded(fresh):
            rows = {_key(text): row for text, row in zip(batch, zip(vectors, parts, strict=True), strict=True)}
            self._cache.write(rows)
            known |= rows
            if advance:
                advance(len(batch))
        self._parts |= {_key(text): known[_key(text)][1] for text in unique}
        if not texts:
            return np.zeros((0, 0), np.float32)
        return np.stack([known[_key(text)][0] for text in texts])

    def close(self) -> None:
        """Close the cache and let the encoder go."""
        self._cache.close()
        self.__dict__.pop("_encoder", None)

    @cached_property
    def _encoder(self) -> Any:
        from strop.models.batching import quiet_transformers

        with quiet_transformers():
            return _load(self._folder, self._device)

    def _embedded(self, texts: Sequence[str]) -> Iterator[tuple[Sequence[str], Vectors, list[int]]]:
        # Texts of like length share a batch: the encoder pads to the longest.
        ordered = sorted(texts, key=len)
        for start in range(0, len(ordered), TEXTS_AT_ONCE):
            batch = ordered[start : start + TEXTS_AT_ONCE]
            parts = [list(self._divided(text)) for text in batch]
            flat = [part for text in parts for part in text]
            encoded = np.asarray(
                self._encoder.encode([part for part, _ in flat], batch_size=TEXTS_AT_ONCE, show_progress_bar=False),
                dtype=np.float32,
            )
            bounds = np.cumsum([0, *map(len, parts)])
            weights = np.array([tokens for _, tokens in flat], dtype=np.float64)
            spans = [slice(low, high) for low, high in pairwise(bounds)]
            means = [np.average(encoded[span], axis=0, weights=weights[span]) for span in spans]
            yield batch, np.stack([_unit(mean) for mean in means]).astype(np.float32), [len(text) for text in parts]

    def _divided(self, text: str) -> Iterator[tuple[str, int]]:
        """Yield the parts of a text that fit the window, each with its number of tokens."""
        window = self._encoder.max_seq_length
        waiting = [text]
        while waiting:
            part = waiting.pop()
            tokens = len(self._encoder.tokenizer(part, verbose=False)["input_ids"])
            if tokens <= window or len(part) < 2:
                yield part, tokens
            else:
                waiting += reversed(halves(part))


def open_embedder(spec: str, *, cache: Path | None = None, device: str = "cpu") -> Embedder:
    """Open an encoder by name; nothing is loaded before the first new text.

    Args:
        spec: ``builtin:minilm``, or the path of an encoder's folder.
        cache: Where vectors are kept; the user's cache folder by default.
        device: Where the encoder runs.

    Raises:
        UserError: No such encoder or folder, or one without safetensors weights or tokenizer.
    """
    return Embedder(
        encoder_folder(spec), name=spec, cache=cache_folder() / "embeddings" if cache is None else cache, device=device
    )


def encoder_folder(spec: str) -> Path:
    """Return the checked folder of an encoder.

    Raises:
        UserError: See `open_embedder`.
    """
    scheme, colon, name = spec.partition(":")
    if scheme == "builtin" and colon:
        if name not in ENCODERS:
            close = nearest(name, ENCODERS)
            raise UserError(
                "no such builtin encoder",
                value=spec,
                fix=f"did you mean builtin:{close}?" if close else None,
                alternatives=[f"builtin:{each}" for each in ENCODERS],
            )
        return builtin_encoder(name)
    if scheme in ("hf", "openai", "http", "https", "vllm", "scripted") and colon:
        raise UserError(
            "an encoder is builtin, or a folder on this machine",
            value=spec,
            why="texts are embedded offline",
            fix="download it, and give the path of its folder",
            alternatives=[f"builtin:{each}" for each in ENCODERS],
        )
    check_folder(Path(spec))
    return Path(spec)


def encoder_revision(folder: Path) -> str:
    """Return the hash of what decides vectors: weights, tokenizer, pooling, and our rule for long texts."""
    digest = hashlib.sha256(f"{folder_revision(folder)}\0{LONG_TEXT_RULE}\0".encode())
    found = {path for pattern in MODULE_PATTERNS for path in folder.glob(pattern)}
    for path in sorted(path for path in found if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{file_hash(path)}\0".encode())
    return digest.hexdigest()


def halves(text: str) -> tuple[str, str]:
    """Cut a text of at least two characters at the whitespace nearest its middle, or in its middle without any."""
    middle = len(text) // 2
    places = [found.start() for found in re.finditer(r"\s", text) if 0 < found.start() < len(text) - 1]
    cut = min(places, key=lambda place: abs(place - middle), default=middle)
    return text[:cut], text[cut:]


def _load(folder: Path, device: str) -> Any:
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(
        str(folder),
        device=device,
        trust_remote_code=False,
        local_files_only=True,
        model_kwargs={"use_safetensors": True, "dtype": "float32"},
    )
    encoder.eval()
    if encoder.max_seq_length is None or encoder.max_seq_length > 1_000_000:  # a tokenizer without a limit states 1e30
        encoder.max_seq_length = getattr(encoder[0].config, "max_position_embeddings", DEFAULT_WINDOW)
    return encoder


def _unit(vector: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else vector


def _key(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
