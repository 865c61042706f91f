"""A workspace: one folder with the call store (``calls.sqlite``) and beside it the runs that share it (``NAME/``)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from strop.errors import UserError, nearest
from strop.runs.budget import UNLIMITED, Budget
from strop.runs.calls import User
from strop.runs.store import CallStore, run_id

WORKSPACE_VARIABLE = "STROP_WORKSPACE"
DEFAULT_WORKSPACE = "runs"


def default_workspace() -> Path:
    """Return the workspace of commands that name none: ``$STROP_WORKSPACE``, or ``./runs``."""
    return Path(os.environ.get(WORKSPACE_VARIABLE) or DEFAULT_WORKSPACE)


def store_path(workspace: Path) -> Path:
    """Return the path of a workspace's call store."""
    return workspace / "calls.sqlite"


@contextmanager
def open_calls(workspace: Path, command: str, subject: str, *, budget: Budget = UNLIMITED) -> Iterator[CallStore]:
    """Open a workspace's store for a command that is no run.

    Its calls are kept under the command and its subject: they count towards the subject's budget over all executions,
    and pruning, which removes what only runs that are gone refer to, leaves them alone.

    Args:
        workspace: The folder of the store.
        command: What is done, as ``judge compare``.
        subject: What it is done to or for, as the file that it writes.
        budget: The most that the subject may cost.
    """
    with CallStore(store_path(workspace)) as store:
        yield store.for_stage(User(f"{command}: {subject}", command, subject), budget=budget)


def run_folder(workspace: Path, name: str) -> Path:
    """Return the folder of the run called `name`.

    Raises:
        UserError: The name is not that of a folder.
    """
    if not name or name != Path(name).name or name.startswith("."):
        raise UserError("a run name must be the name of a folder", value=name, fix="leave out slashes and leading dots")
    return workspace / name


def find_run(run: str, workspace: Path) -> Path:
    """Return the folder of an existing run, given by path or by name.

    Raises:
        UserError: There is none; names the runs of the workspace.
    """
    for folder in (Path(run), workspace / run):
        if run_id(folder) is not None:
            return folder
    known = sorted(entry.name for entry in workspace.iterdir() if run_id(entry)) if workspace.is_dir() else []
    close = nearest(run, known)
    raise UserError(
        "there is no such run",
        value=run,
        why=f"looked at the path itself and in the workspace {workspace}",
        fix=f"did you mean {close!r}?" if close else "give a run folder, or its workspace with --workspace",
        alternatives=known,
    )
