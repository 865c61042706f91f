"""A run: one recipe executed in one folder, stage by stage, and continued by the same command after any stop.

How a stage is published, and why a kill between any two steps is safe:

1. The stage function writes into a folder of its own under ``work/``. Killed: the folder is cleared and the stage runs
   again; its checkpoints (``Stage.work``) and its stored calls are still there.
2. The files are flushed and hashed, and a lineage record "this fingerprint gives this digest" is written. Killed: the
   folder under ``work/`` has exactly that digest, so the next execution publishes it without running the stage.
3. What held the stage before is renamed into ``superseded/``. Killed: as after 2.
4. The new folder is renamed to ``stages/NN-name``. Killed: record and folder agree, so the stage counts as done; only
   its event is missing, and the next execution writes it, marked as recovered.
5. The event goes into the manifest and ``work/`` is cleared. The manifest is a history, no decision rests on it.
"""

from __future__ import annotations

import errno
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel

from strop.errors import Stopped, UserError
from strop.runs.artifact import Artifact
from strop.runs.budget import UNLIMITED, Budget
from strop.runs.calls import User
from strop.runs.content import hash_tree, sync_tree
from strop.runs.description import describe_run, refuse_strangers, write_description
from strop.runs.fingerprint import Fingerprint, fingerprint_call, hash_json
from strop.runs.interruption import Interruption
from strop.runs.lineage import Lineage, Source, find_lineage, lineages_of
from strop.runs.lock import hold_lock
from strop.runs.manifest import Manifest, read_manifest
from strop.runs.progress import Reporter
from strop.runs.shelf import Shelf
from strop.runs.stage import Stage
from strop.runs.store import CallStore
from strop.runs.workspace import store_path

_STAGE_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


class Run:
    """An open run. `Run.open` makes one; leaving its block closes it."""

    def __init__(
        self,
        folder: Path,
        *,
        config: BaseModel,
        seed: int,
        identifier: str,
        store: CallStore,
        reporter: Reporter,
        budget: Budget,
    ) -> None:
        """Take the parts of a run that `Run.open` has prepared."""
        self.folder, self.config, self.seed, self.id, self.store = folder, config, seed, identifier, store
        self.reporter, self._budget = reporter, budget
        self.artifacts: dict[str, Artifact] = {}
        """The artifacts of this execution by stage name, in the order of their stages."""
        self._keys: dict[str, str] = {}
        self._manifest = Manifest(folder / "manifest.jsonl")
        self._shelf = Shelf(folder)
        self._interruption = Interruption()
        self._exit = ExitStack()
        self._finished = _note_sudden_end(self._manifest)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        config: BaseModel,
        origins: Mapping[str, str],
        seed: int,
        workspace: Path,
        budget: Budget = UNLIMITED,
        quiet: bool = False,
    ) -> Self:
        """Open a run, new or begun before, and take its lock; use it as a context manager.

        Args:
            folder: The run folder.
            config: The resolved configuration, written to ``config.resolved.yaml``.
            origins: Where each value comes from, by dotted path.
            seed: The run seed, from which every random choice derives.
            workspace: The folder whose call store the run shares with others.
            budget: The most the run may spend over all its executions.
            quiet: Whether to say nothing but notices.

        Raises:
            UserError: The folder holds something else, or another process writes to this run.
        """
        folder = folder.resolve()
        refuse_strangers(folder)
        with _disk_full_stops(), ExitStack() as opening:
            opening.enter_context(hold_lock(folder / "lock"))
            identity = describe_run(folder, config=config, seed=seed, workspace=workspace)
            write_description(folder, identity, config=config, origins=origins)
            store = opening.enter_context(CallStore(store_path(workspace)))
            store.register_run(identity["id"], folder)
            reporter = Reporter(quiet=quiet)
            run = cls(
                folder,
                config=config,
                seed=seed,
                identifier=identity["id"],
                store=store,
                reporter=reporter,
                budget=budget,
            )
            command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
            run._manifest.append("opened", command=command, seed=seed, versions=identity["versions"])
            run._exit = opening.pop_all()
        return run

    def __enter__(self) -> Self:
        self._exit.enter_context(self._interruption)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        with self._exit, self._interruption.shielded():
            if error is None:
                self._shelf.keep_only(self.artifacts)
                self._manifest.append("closed", status="finished")
            else:
                self._append_if_possible("closed", status=_status(error))

    def stage(self, function: Callable[..., None], *args: Any, name: str, **kwargs: Any) -> Artifact:
        """Run a stage, or skip it when its artifact is there already.

        Args:
            function: A function at module level; it gets a `Stage` and then the arguments.
            args: Artifacts, paths, configs and plain values; see `strop.runs.fingerprint.canonical`.
            name: What to call the stage; it stands for one fingerprint within an execution.
            kwargs: As `args`.

        Returns:
            The published artifact.

        Raises:
            Stopped: A signal, a full disk or a budget; the same command continues here.
            TypeError: An argument has no fingerprint.
        """
        self._interruption.check()
        call = fingerprint_call(function, *args, **kwargs)
        if not _STAGE_NAME.fullmatch(name):
            raise ValueError(f"a stage name is made of a-z, 0-9, '_', '.' and '-': got {name!r}")
        if name in self.artifacts:
            if self._keys[name] != call.value:
                raise ValueError(f"stage {name!r} was called before in this run, with other arguments")
            return self.artifacts[name]
        place = self._shelf.place(len(self.artifacts) + 1, name)
        digest = self._reuse(place, name, call)
        if digest is None:
            digest = self._execute(place, name, call, lambda stage: function(stage, *args, **kwargs))
        self._keys[name], self.artifacts[name] = call.value, Artifact(name, place, digest)
        self._interruption.check()
        return self.artifacts[name]

    def _reuse(self, place: Path, name: str, call: Fingerprint) -> str | None:
        """Bring a finished artifact of the same fingerprint to its place; return its digest, or None to run."""
        unpublished = self._shelf.desk(name, self._seeded(call)) / "artifact"
        records = [find_lineage(self.folder, name, key) for key in (call.value, self._seeded(call))]
        for lineage in filter(None, records):
            found = self._shelf.find(name, lineage.digest, unpublished=unpublished)
            if found is not None:
                with self._interruption.shielded():
                    self._shelf.publish(found, place)
                    if (name, lineage.key) not in self._finished:
                        self._note_finished(place, lineage, seconds=None)
                    facts = {"fingerprint": lineage.key, "digest": lineage.digest}
                    self._manifest.append("skipped", stage=place.name, **facts)
                self.reporter.say(f"{place.name}: done before")
                return lineage.digest
        if any(records):
            self._notice_damage(name, place)
        return None

    def _notice_damage(self, name: str, place: Path) -> None:
        known = {lineage.digest for lineage in lineages_of(self.folder, name)}
        damaged = [folder for folder in self._shelf.on_shelf(name) if hash_tree(folder) not in known]
        state = "changed after the stage had finished" if damaged else "gone"
        self._manifest.append("damaged", stage=place.name, state=state)
        self.reporter.notice(f"{place.name}: its artifact is {state}, so the stage runs again")

    def _seeded(self, call: Fingerprint) -> str:
        return hash_json([call.value, self.seed])

    def _execute(self, place: Path, name: str, call: Fingerprint, function: Callable[[Stage], None]) -> str:
        key = self._seeded(call)
        desk = self._shelf.desk(name, key)
        shutil.rmtree(desk / "artifact", ignore_errors=True)
        user = User(self.id, name, key)
        with _disk_full_stops(), self._record_failure(place, desk):
            self._shelf.clear_desks(name, but=desk)
            stage = Stage(
                name,
                place=place.name,
                folder=desk / "artifact",
                work=desk / "work",
                store=self.store.for_stage(user, budget=self._budget),
                seed=self.seed,
                manifest=self._manifest,
                reporter=self.reporter,
                interruption=self._interruption,
            )
            self._manifest.append("started", stage=place.name, fingerprint=call.value, resumed=stage.drew)
            self.reporter.say(f"{place.name}: started")
            begin = time.monotonic()
            function(stage)
            self._interruption.check()
            with self._interruption.shielded():
                lineage = self._publish(stage, place, call)
                seconds = round(time.monotonic() - begin, 3)
                self._note_finished(place, lineage, seconds=seconds)
                shutil.rmtree(desk)
        self.reporter.say(f"{place.name}: done in {seconds:.1f} s")
        return lineage.digest

    def _publish(self, stage: Stage, place: Path, call: Fingerprint) -> Lineage:
        sync_tree(stage.folder)
        lineage = Lineage(
            stage=stage.name,
            key=self._seeded(call) if stage.drew else call.value,
            digest=hash_tree(stage.folder),
            function=call.function,
            code=call.code,
            seed=self.seed if stage.drew else None,
            calls=self._seeded(call),
            arguments=call.arguments,
            inputs=tuple(
                Source(argument, item.name, item.digest) for argument, items in call.inputs.items() for item in items
            ),
        )
        lineage.write(self.folder)
        self._shelf.publish(stage.folder, place)
        return lineage

    def _note_finished(self, place: Path, lineage: Lineage, *, seconds: float | None) -> None:
        """Write the event of a finished stage; without `seconds`, one that a kill kept from being written in time."""
        user = User(self.id, lineage.stage, lineage.calls)
        used = self.store.used_by(user)
        self._manifest.append(
            "finished",
            stage=place.name,
            fingerprint=lineage.key,
            digest=lineage.digest,
            inputs={source.argument: source.digest for source in lineage.inputs},
            seconds=seconds,
            recovered=seconds is None,
            calls=used.calls,
            reused=used.calls - self.store.used_by(user, paid=True).calls,
            tokens=used.tokens,
        )

    @contextmanager
    def _record_failure(self, place: Path, desk: Path) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            with self._interruption.shielded():
                # Half an artifact is of no use; on a full disk its space is what the manifest needs.
                shutil.rmtree(desk / "artifact", ignore_errors=True)
                why = f"{type(error).__name__}: {error}"
                self._append_if_possible(_status(error), stage=place.name, why=why)
            raise

    def _append_if_possible(self, event: str, **facts: Any) -> None:
        try:
            self._manifest.append(event, **facts)
        except OSError as error:
            # The error that ends the run is the one to show, not the full disk that hides its trace.
            self.reporter.notice(f"the manifest could not be written: {error}")


def _status(error: BaseException) -> str:
    stopped = isinstance(error, (Stopped, KeyboardInterrupt)) or _is_disk_full(error)
    return "interrupted" if stopped else "failed"


def _note_sudden_end(manifest: Manifest) -> set[tuple[str, str]]:
    """Say in the manifest that the last execution was killed, if it was; return the finished stages and keys."""
    finished: set[tuple[str, str]] = set()
    running, is_open = None, False
    for event in read_manifest(manifest.path):
        kind, stage = event["event"], event.get("stage")
        if kind == "finished":
            finished.add((str(stage).partition("-")[2], event["fingerprint"]))
        if kind in ("opened", "closed"):
            is_open, running = kind == "opened", None
        elif kind in ("started", "finished", "failed", "interrupted"):
            running = stage if kind == "started" else None
    if is_open:
        why = "the process ended without a word: it was killed, or the machine went down"
        if running is not None:
            manifest.append("interrupted", stage=running, why=why)
        manifest.append("closed", status="interrupted", why=why)
    return finished


def _is_disk_full(error: BaseException) -> bool:
    """Tell a full disk by its number, or by its text where a library hides the number."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if isinstance(error, OSError) and error.errno in full:
        return True
    return "No space left on device" in str(error) or "Disk quota exceeded" in str(error)


@contextmanager
def _disk_full_stops() -> Iterator[None]:
    try:
        yield
    except (Stopped, UserError):
        raise
    except Exception as error:
        if not _is_disk_full(error):
            raise
        raise Stopped(
            "the disk is full",
            value=getattr(error, "filename", None),
            why="every finished stage and every stored call is kept",
            fix="free some space and run the same command again",
        ) from error
