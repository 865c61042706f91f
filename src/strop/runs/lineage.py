"""Lineage: for each artifact, the function, code, arguments and inputs that made it; and the way back from a number.

A lineage record says "this fingerprint gives this digest". It is written before its artifact is published, and it is
never changed, so a folder is the right artifact exactly when its digest is the one that the record names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from strop.errors import UserError, nearest
from strop.records.tables import atomic_path
from strop.runs.calls import StoredCall, User
from strop.runs.content import hash_tree, sync_path
from strop.runs.manifest import read_manifest
from strop.runs.store import CallStore, run_id

LINEAGE_SCHEMA = 1
CALLS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Source:
    """An artifact that another one was made from."""

    argument: str
    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class Lineage:
    """What an artifact was made from.

    Attributes:
        stage: The name of the stage.
        key: The stage's fingerprint, together with the run seed where the stage asked for it.
        digest: The hash of the artifact's content.
        function: The stage function, ``module:name``.
        code: The version of its code.
        seed: The run seed, or None for a stage that draws nothing.
        calls: The fingerprint under which the call store knows the stage's calls.
        arguments: The arguments in canonical form.
        inputs: The artifacts among the arguments.
    """

    stage: str
    key: str
    digest: str
    function: str
    code: str
    seed: int | None
    calls: str
    arguments: Mapping[str, Any]
    inputs: tuple[Source, ...]

    def write(self, run_folder: Path) -> None:
        """Write the record into its run, whole or not at all, and flush it to the disk."""
        path = _path(run_folder, self.stage, self.key)
        with atomic_path(path) as part:
            part.write_text(json.dumps({"schema": LINEAGE_SCHEMA, **asdict(self)}, indent=1) + "\n", encoding="utf-8")
        sync_path(path.parent)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record.

        Raises:
            UserError: A newer strop wrote it.
        """
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("schema") > LINEAGE_SCHEMA:
            raise UserError("a newer strop wrote this run", value=str(path), fix="use that strop, or start a new run")
        inputs = tuple(Source(**source) for source in content.pop("inputs"))
        return cls(**content, inputs=inputs)


def _path(run_folder: Path, stage: str, key: str) -> Path:
    return run_folder / "lineage" / f"{stage}-{key[:16]}.json"


def find_lineage(run_folder: Path, stage: str, key: str) -> Lineage | None:
    """Return the record of a stage under a key, or None where the stage never finished with it."""
    path = _path(run_folder, stage, key)
    return Lineage.read(path) if path.is_file() else None


def lineages_of(run_folder: Path, stage: str) -> Iterator[Lineage]:
    """Yield every record of a stage, newest first."""
    paths = (run_folder / "lineage").glob(f"{stage}-{'?' * 16}.json")
    yield from (Lineage.read(path) for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True))


@dataclass(frozen=True, slots=True)
class Node:
    """An artifact on the way back from a number, with the calls that it used and the artifacts that it was made from.

    Attributes:
        lineage: What the artifact was made from.
        folder: Where it lies, or None where it was replaced or removed since.
        calls: How many model calls its stage used.
        tokens: The tokens of those calls.
        first_calls: The first few of them.
        inputs: The artifacts that it was made from, one for each argument that is one.
    """

    lineage: Lineage
    folder: Path | None
    calls: int
    tokens: int
    first_calls: tuple[StoredCall, ...]
    inputs: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Trace:
    """A number of a report and what it was made from."""

    name: str
    value: Any
    file: str | None
    root: Node
    entry: Mapping[str, Any] = field(default_factory=dict)


def read_report(run_folder: Path) -> list[dict[str, Any]]:
    """Return the numbers in ``report.json``: entries with ``name``, ``value``, ``artifact`` (a stage) and ``file``.

    Raises:
        UserError: The run has no report yet, or the file holds something else.
    """
    path = run_folder / "report.json"
    if not path.is_file():
        raise UserError("this run has no report yet", value=str(path), fix="finish the run, or run strop report on it")
    content = json.loads(path.read_text(encoding="utf-8"))
    entries = content.get("numbers") if isinstance(content, dict) else content
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and "name" in entry for entry in entries):
        raise UserError("a report must hold a list of numbers, each with a name", value=str(path))
    return entries


def trace(run_folder: Path, number: str, *, calls: int = CALLS_SHOWN) -> Trace:
    """Walk back from a number of a run's report to the artifacts and the model calls that it was made from.

    Args:
        run_folder: The run.
        number: The name of an entry of ``report.json``.
        calls: How many calls of each stage to bring along.

    Raises:
        UserError: There is no such number, or it names no artifact of this run.
    """
    entries = read_report(run_folder)
    names = [str(entry["name"]) for entry in entries]
    if number not in names:
        close = nearest(number, names)
        raise UserError(
            "the report has no such number",
            value=number,
            fix=f"did you mean {close!r}?" if close else None,
            alternatives=names,
        )
    entry = entries[names.index(number)]
    folder = artifact_folder(run_folder, str(entry.get("artifact")))
    if folder is None:
        raise UserError(f"the number {number!r} names no artifact of this run", value=entry.get("artifact"))
    stage = folder.name.partition("-")[2]
    with CallStore(store_of(run_folder)) as store:
        root = _Walk(run_folder, store, calls).node(stage, hash_tree(folder))
    if root is None:
        raise UserError(
            f"the artifact {entry['artifact']!r} was changed after its stage had finished",
            why="its content is not what its lineage record names",
            fix="run the recipe again: it notices the damage and repeats the stage",
        )
    return Trace(number, entry.get("value"), entry.get("file"), root, entry)


def artifact_folder(run_folder: Path, artifact: str) -> Path | None:
    """Find an artifact by stage name, by folder name or by path below the run."""
    wanted = Path(artifact).name
    stages = run_folder / "stages"
    folders = sorted(stages.iterdir()) if stages.is_dir() else []
    return next((folder for folder in folders if wanted in (folder.name, folder.name.partition("-")[2])), None)


def store_of(run_folder: Path) -> Path:
    """Return the path of the call store that a run uses.

    Raises:
        UserError: There is no run in the folder.
    """
    if run_id(run_folder) is None:
        raise UserError("there is no run in this folder", value=str(run_folder))
    run = json.loads((run_folder / "run.json").read_text(encoding="utf-8"))
    return Path(run["workspace"]) / "calls.sqlite"


class _Walk:
    def __init__(self, run_folder: Path, store: CallStore, calls: int) -> None:
        self._folder, self._store, self._calls = run_folder, store, calls
        self._run = run_id(run_folder) or ""
        events = read_manifest(run_folder / "manifest.jsonl")
        done = (event for event in events if event["event"] in ("finished", "skipped"))
        self._in_force = {event["stage"].partition("-")[2]: event["fingerprint"] for event in done}

    def node(self, stage: str, digest: str) -> Node | None:
        """Return the artifact of `stage` with content `digest`, or None where no record names it."""
        records = [record for record in lineages_of(self._folder, stage) if record.digest == digest]
        if not records:
            return None
        # Other settings may have given the same content: what the latest execution used goes first.
        lineage = next((record for record in records if record.key == self._in_force.get(stage)), records[0])
        user = User(self._run, stage, lineage.calls)
        used = self._store.used_by(user)
        inputs = [self.node(source.name, source.digest) for source in lineage.inputs]
        return Node(
            lineage=lineage,
            folder=self._find(stage, digest),
            calls=used.calls,
            tokens=used.tokens,
            first_calls=tuple(self._store.calls_of(user, limit=self._calls)),
            inputs=tuple(node for node in inputs if node is not None),
        )

    def _find(self, stage: str, digest: str) -> Path | None:
        places = [*self._folder.glob(f"stages/*-{stage}"), *self._folder.glob(f"superseded/{stage}-*")]
        return next((place for place in places if hash_tree(place) == digest), None)
