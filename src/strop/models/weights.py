"""What a local model folder is: are its parts there, and which exact model do they make."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from strop.errors import UserError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
IDENTITY_PATTERNS = (
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "vocab.*",
    "merges.txt",
    "spiece.model",
    "*.safetensors",
    "*.safetensors.index.json",
)
CHUNK_BYTES = 1 << 22

_hashes: dict[tuple[str, int, int, int], str] = {}


def check_folder(folder: Path) -> None:
    """Make sure that `folder` holds a model that transformers can load.

    Raises:
        UserError: The folder is missing, or has no config, no safetensors weights (or not all shards), or no tokenizer.
    """
    if not folder.is_dir():
        name = str(folder)
        hub = f"for a model of the hub write hf:{name}; " if name.count("/") == 1 and not name.startswith("/") else ""
        raise UserError("no such model folder", value=name, fix=f"{hub}for a local model give the path of its folder")
    if not (folder / "config.json").is_file():
        raise UserError("a model folder without config.json", value=str(folder), fix="give the folder that holds it")
    _check_weights(folder)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise UserError(
            "a model folder without a tokenizer",
            value=str(folder),
            fix="save the tokenizer beside the model: tokenizer.save_pretrained(folder)",
            alternatives=TOKENIZER_FILES,
        )


def _check_weights(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        missing = [shard for shard in shards if not (folder / shard).is_file()]
        if missing:
            raise UserError("a model folder with missing shards", value=str(folder), why=f"no {', '.join(missing)}")
        return
    if next(folder.glob("*.safetensors"), None) is None:
        pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
        raise UserError(
            "a model folder without safetensors weights",
            value=str(folder),
            why=f"{pickled[0]} is a pickle, which can run code when it is read" if pickled else None,
            fix="save the model with model.save_pretrained(folder)",
        )


def folder_revision(folder: Path) -> str:
    """Return the SHA-256 over names and contents of the config, tokenizer and weight files of `folder`.

    A file's hash is kept for the life of the process as long as its size, time and inode stay the same.
    """
    files = sorted({path for pattern in IDENTITY_PATTERNS for path in folder.glob(pattern) if path.is_file()})
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name}\0{file_hash(path)}\0".encode())
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's contents, computed once per process and state of the file."""
    status = path.stat()
    key = (str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ino)
    if key not in _hashes:
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
        _hashes[key] = digest.hexdigest()
    return _hashes[key]
