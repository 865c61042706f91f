"""Where a run keeps its artifacts: ``stages/NN-name`` for those in use, ``superseded/`` for those of other settings.

Every move is one rename, so that a kill leaves an artifact at its old place or at its new one. Which artifact a folder
holds is told by its digest alone; nothing else has to be kept in step with it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from strop.runs.content import hash_tree, sync_path


class Shelf:
    """The artifacts of one run."""

    def __init__(self, run_folder: Path) -> None:
        """Make the folders where they are missing."""
        self.stages, self.superseded, self.work = (run_folder / name for name in ("stages", "superseded", "work"))
        for folder in (self.stages, self.superseded, self.work):
            folder.mkdir(parents=True, exist_ok=True)

    def place(self, number: int, name: str) -> Path:
        """Return where the artifact of stage `name` belongs when it is the run's stage `number`."""
        return self.stages / f"{number:02d}-{name}"

    def desk(self, name: str, key: str) -> Path:
        """Return the folder in which a stage works until its artifact is published."""
        return self.work / f"{name}-{key[:8]}"

    def clear_desks(self, name: str, *, but: Path) -> None:
        """Remove what other settings of a stage left half done."""
        for desk in self.work.glob(f"{name}-{'?' * 8}"):
            if desk != but:
                shutil.rmtree(desk)

    def on_shelf(self, name: str) -> list[Path]:
        """Return the folders in use that hold stage `name`; its number may have changed since."""
        return [folder for folder in self.stages.iterdir() if folder.name.partition("-")[2] == name]

    def find(self, name: str, digest: str, *, unpublished: Path) -> Path | None:
        """Return a folder whose content is `digest`: in use, superseded, or finished and not yet published."""
        places = [*self.on_shelf(name), self._aside(name, digest), unpublished]
        return next((place for place in places if place.is_dir() and hash_tree(place) == digest), None)

    def publish(self, folder: Path, place: Path) -> None:
        """Move a folder to its place among the artifacts in use; what held the stage before is put aside."""
        name = place.name.partition("-")[2]
        for old in self.on_shelf(name):
            if old != folder:
                self.put_aside(old)
        if folder != place:
            folder.replace(place)
        sync_path(self.stages)

    def put_aside(self, folder: Path) -> None:
        """Move an artifact out of use; it comes back when its settings do."""
        aside = self._aside(folder.name.partition("-")[2], hash_tree(folder))
        if aside.exists() and hash_tree(aside) == hash_tree(folder):
            self._discard(folder)
        else:
            if aside.exists():
                self._discard(aside)
            folder.replace(aside)
        sync_path(self.superseded)

    def keep_only(self, names: Iterable[str]) -> None:
        """Put aside every artifact in use whose stage is not among `names`, and clear all desks."""
        kept = set(names)
        for folder in list(self.stages.iterdir()):
            if folder.name.partition("-")[2] not in kept:
                self.put_aside(folder)
        for desk in list(self.work.iterdir()):
            shutil.rmtree(desk)

    def _aside(self, name: str, digest: str) -> Path:
        return self.superseded / f"{name}-{digest[:16]}"

    def _discard(self, folder: Path) -> None:
        # Out of sight in one step first: a kill while files go one by one must not leave a part of an artifact.
        bin_ = Path(tempfile.mkdtemp(prefix="discarded-", dir=self.work))
        folder.replace(bin_ / folder.name)
        shutil.rmtree(bin_)
