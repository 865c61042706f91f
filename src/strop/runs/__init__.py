"""Runs: a folder that tells the whole story, stages that are skipped when done, calls that are paid for once."""

from strop.runs.artifact import Artifact
from strop.runs.budget import FREE, UNLIMITED, Budget, Price, Spent
from strop.runs.calls import Ability, FailedCall, StoredCall, StoreSizes, User
from strop.runs.configuration import Config, Loaded, load_recipe
from strop.runs.lineage import Trace, trace
from strop.runs.run import Run
from strop.runs.seeds import derive_seed, stream
from strop.runs.stage import Stage
from strop.runs.store import CallStore
from strop.runs.workspace import default_workspace, find_run, run_folder

__all__ = [
    "FREE",
    "UNLIMITED",
    "Ability",
    "Artifact",
    "Budget",
    "CallStore",
    "Config",
    "FailedCall",
    "Loaded",
    "Price",
    "Run",
    "Spent",
    "Stage",
    "StoreSizes",
    "StoredCall",
    "Trace",
    "User",
    "default_workspace",
    "derive_seed",
    "find_run",
    "load_recipe",
    "run_folder",
    "stream",
    "trace",
]
