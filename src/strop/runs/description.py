"""What a run says about itself: who and which versions (``run.json``), which settings (``config.resolved.yaml``)."""

from __future__ import annotations

import hashlib
import json
import platform
import uuid
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import strop
from strop.errors import UserError
from strop.records.tables import atomic_path
from strop.runs.annotated import annotated_yaml
from strop.runs.content import files_of, hash_file
from strop.runs.manifest import now

RUN_SCHEMA = 1
PACKAGES = (
    *("accelerate", "datasets", "math-verify", "numpy", "openai", "peft", "pyarrow", "pydantic"),
    *("safetensors", "scipy", "tokenizers", "torch", "transformers", "trl", "vllm"),
)


def refuse_strangers(folder: Path) -> None:
    """Refuse a folder that holds anything but a run.

    Raises:
        UserError: It does.
    """
    strangers = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    # A process killed while it began a run leaves no more than its lock and hidden parts.
    if "run.json" not in strangers and any(name != "lock" and not name.startswith(".") for name in strangers):
        raise UserError(
            "the run folder holds something else",
            value=str(folder),
            why="there is no run.json in it",
            fix="choose another name with --name, or empty the folder",
        )


def describe_run(folder: Path, *, config: BaseModel, seed: int, workspace: Path) -> dict[str, Any]:
    """Return the content of ``run.json``: that of the run in `folder`, brought up to date, or that of a new run.

    Raises:
        UserError: The folder holds a run of another recipe, or one of a newer strop.
    """
    kind = f"{type(config).__module__}:{type(config).__qualname__}"
    path = folder / "run.json"
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        _refuse_other(folder, known, kind)
    else:
        known = {"id": uuid.uuid4().hex, "created": now()}
    return {
        "schema": RUN_SCHEMA,
        "id": known["id"],
        "created": known["created"],
        "config": kind,
        "seed": seed,
        "workspace": str(workspace.resolve()),
        "versions": dict(versions()),
        "code": code_of_strop(),
    }


def _refuse_other(folder: Path, known: Mapping[str, Any], kind: str) -> None:
    if known["schema"] > RUN_SCHEMA:
        raise UserError("a newer strop wrote this run", value=str(folder), fix="use that strop, or start a new run")
    if known["config"] != kind:
        raise UserError(
            f"the folder holds a run of another recipe ({known['config']})",
            value=str(folder),
            fix="choose another name with --name",
        )


def write_description(
    folder: Path, identity: Mapping[str, Any], *, config: BaseModel, origins: Mapping[str, str]
) -> None:
    """Write ``run.json`` and ``config.resolved.yaml``, each whole or not at all."""
    # run.json is what makes a folder a run, so it comes first: a kill in between must not leave a stranger's folder.
    with atomic_path(folder / "run.json") as part:
        part.write_text(json.dumps(dict(identity), indent=1) + "\n", encoding="utf-8")
    with atomic_path(folder / "config.resolved.yaml") as part:
        part.write_text(annotated_yaml(config, origins=origins), encoding="utf-8")


@cache
def versions() -> Mapping[str, str]:
    """Return the versions of Python, strop and the libraries that results may depend on; absent ones are left out."""
    found = {"python": platform.python_version(), "platform": platform.platform(), "strop": strop.__version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def code_of_strop() -> str:
    """Return the hash of strop's source files, comments included."""
    folder = Path(strop.__file__).parent
    sources = [path for path in files_of(folder) if path.suffix == ".py"]
    listed = [f"{path.relative_to(folder).as_posix()} {hash_file(path)}" for path in sources]
    return hashlib.sha256("\n".join(listed).encode()).hexdigest()
