"""Content hashes of files and folders, remembered while a file stays as it is."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_hashes: dict[tuple[int, int, int, int, int], str] = {}


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file; a file whose size, times and inode are unchanged is read once per process."""
    status = path.stat()
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if identity not in _hashes:
        with path.open("rb") as stream:
            _hashes[identity] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _hashes[identity]


def files_of(folder: Path) -> list[Path]:
    """Return the files below `folder`, sorted by relative path; links are followed."""
    found = [Path(root) / name for root, _, names in os.walk(folder, followlinks=True) for name in names]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def hash_tree(folder: Path) -> str:
    """Return the hash of a folder's files: their sorted relative paths and their bytes. Empty folders do not count."""
    tree = hashlib.sha256()
    for path in files_of(folder):
        tree.update(f"{path.relative_to(folder).as_posix()}\0{hash_file(path)}\n".encode())
    return tree.hexdigest()


def sync_path(path: Path) -> None:
    """Flush a file or the entries of a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Flush every file and folder below `folder`, and `folder` itself."""
    for root, _, names in os.walk(folder):
        for name in names:
            sync_path(Path(root) / name)
        sync_path(Path(root))
