"""A run that is killed again and again must end with the bytes of one that is left alone, and pay for no call twice.

    python scripts/kill_and_continue.py --kills 25 --seed 0 --recipe weak_to_strong/demo --set data.test=100

The recipe runs unbroken in one workspace. In another, the same command is started again and again and killed (SIGKILL
to its whole process group) at random moments spread over the run, then left to end. The exit code is 1 on a difference.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from strop.runs.content import files_of
from strop.runs.manifest import read_manifest

if TYPE_CHECKING:
    from strop.runs import FailedCall, StoredCall

NAME = "run"
POLL_S = 0.02
LOADING_S = 8.0
"""About what a new process takes to load its libraries in the first stage that needs them."""


@dataclass(frozen=True, slots=True)
class Command:
    """The command that is run, and run again after every kill."""

    recipe: str
    sets: tuple[str, ...]

    def start(self, workspace: Path) -> subprocess.Popen[bytes]:
        """Start it in a process group of its own; what it says is kept beside its workspace."""
        arguments = ["run", self.recipe, "--name", NAME, "--workspace", str(workspace)]
        arguments += [part for change in self.sets for part in ("--set", change)]
        witness = (__file__, "--witness", str(witness_of(workspace)))
        with workspace.with_suffix(".log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *witness, *arguments],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of the command: how long it ran after the run was opened, and whether it was killed."""

    seconds: float
    killed: bool
    stage: str | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the comparison came to; `differences` is empty when all is well."""

    kills: int
    starts: int
    files: int
    calls_unbroken: int
    calls_killed: int
    stages_hit: dict[str, int]
    seconds_unbroken: float
    seconds_killed: float
    differences: list[str] = field(default_factory=list)


def witness_of(workspace: Path) -> Path:
    """Return the file in which a run writes down every call that it has asked and stored."""
    return workspace.with_suffix(".asked")


def run_with_witness(witness: Path, arguments: Sequence[str]) -> None:
    """Run strop, and write down the key of every call once the store has taken it.

    The store keeps the first answer to a call and would hide that it was asked again.
    """
    from strop.cli.main import main as strop
    from strop.runs import CallStore

    store_calls = CallStore.put_many

    def put_many(self: CallStore, calls: Sequence[StoredCall | FailedCall]) -> dict[str, StoredCall]:
        answers = store_calls(self, calls)
        handle = os.open(witness, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, "".join(f"{key}\n" for key in answers).encode())
        os.close(handle)
        return answers

    CallStore.put_many = put_many  # type: ignore[method-assign]
    sys.argv = ["strop", *arguments]
    strop()


def manifest(workspace: Path) -> list[dict[str, Any]]:
    """Return the events of the run so far; none before it was opened."""
    path = workspace / NAME / "manifest.jsonl"
    return list(read_manifest(path)) if path.exists() else []


def opened(workspace: Path) -> int:
    """Return how often the run was opened."""
    return sum(event["event"] == "opened" for event in manifest(workspace))


def wait_until_opened(process: subprocess.Popen[bytes], workspace: Path, before: int) -> None:
    """Wait until the imports are done and the run is open, so that a kill hits the run."""
    while process.poll() is None and opened(workspace) == before:
        time.sleep(POLL_S)


def kill(process: subprocess.Popen[bytes]) -> bool:
    """Kill the process and everything that it started; return whether it was still running."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def run_to_the_end(command: Command, workspace: Path) -> Attempt:
    """Run the command once without a kill."""
    process, before = command.start(workspace), opened(workspace)
    wait_until_opened(process, workspace, before)
    began = time.monotonic()
    if process.wait() != 0:
        sys.exit(f"the run failed:\n{workspace.with_suffix('.log').read_text(errors='replace')[-4000:]}")
    return Attempt(time.monotonic() - began, killed=False, stage=None)


@dataclass(frozen=True, slots=True)
class Moment:
    """When to kill: so many seconds after a stage has started, at the latest when a later stage starts."""

    stage: str
    delay: float


def draw_moments(workspace: Path, *, kills: int, random: Random) -> list[Moment]:
    """Draw moments spread evenly over the seconds of an unbroken run's stages, in the order of the run.

    The last stage is left out: the run would end before it could be killed. A new process loads its libraries inside
    the stage that it goes on with, so that much is added to the longest delay.
    """
    finished = [event for event in manifest(workspace) if event["event"] == "finished"][:-1]
    seconds = [event["seconds"] for event in finished]
    drawn = random.choices(range(len(finished)), seconds, k=kills)
    return [Moment(finished[index]["stage"], random.uniform(0, seconds[index] + LOADING_S)) for index in sorted(drawn)]


def started(workspace: Path) -> list[str]:
    """Return the stages that started since the run was last opened, or that were skipped."""
    names: list[str] = []
    for event in manifest(workspace):
        if event["event"] == "opened":
            names = []
        elif event["event"] in ("started", "skipped"):
            names.append(event["stage"])
    return names


def run_and_kill(command: Command, workspace: Path, moment: Moment) -> Attempt:
    """Start the command and kill it at a moment."""
    before = opened(workspace)
    process = command.start(workspace)
    wait_until_opened(process, workspace, before)
    began, reached = time.monotonic(), None
    while process.poll() is None:
        latest = max(started(workspace), default="")
        reached = reached or (time.monotonic() if latest >= moment.stage else None)
        if latest > moment.stage or (reached and time.monotonic() - reached >= moment.delay):
            break
        time.sleep(POLL_S)
    killed = kill(process)
    if not killed and process.returncode != 0:
        sys.exit(f"the run failed:\n{workspace.with_suffix('.log').read_text(errors='replace')[-4000:]}")
    return Attempt(time.monotonic() - began, killed, _running_stage(workspace) if killed else None)


def _running_stage(workspace: Path) -> str | None:
    running = None
    for event in manifest(workspace):
        if event["event"] in ("opened", "finished", "skipped"):
            running = None
        elif event["event"] == "started":
            running = event["stage"]
    return running


def kill_often(command: Command, workspace: Path, moments: Sequence[Moment]) -> list[Attempt]:
    """Kill the run at every moment, then let it end."""
    attempts: list[Attempt] = []
    for number, moment in enumerate(moments, start=1):
        attempts.append(run_and_kill(command, workspace, moment))
        if not attempts[-1].killed:
            print("the run ended before all kills had happened", flush=True)
            return attempts
        told = attempts[-1]
        print(f"kill {number:2}: after {told.seconds:6.2f} s in {told.stage or 'no stage'}", flush=True)
    return [*attempts, run_to_the_end(command, workspace)]


def contents(workspace: Path) -> dict[str, bytes]:
    """Return every published file of the run."""
    stages = workspace / NAME / "stages"
    return {path.relative_to(stages).as_posix(): path.read_bytes() for path in files_of(stages)}


def stored(workspace: Path) -> set[str]:
    """Return the keys of the stored calls."""
    with closing(sqlite3.connect(workspace / "calls.sqlite")) as store:
        return {key for (key,) in store.execute("SELECT key FROM calls")}


def asked(workspace: Path) -> Counter[tuple[str, int, int]]:
    """Return what every stage asked itself and found, as its finishing event tells."""
    told = (event for event in manifest(workspace) if event["event"] == "finished")
    return Counter((event["stage"], event["calls"], event["reused"]) for event in told)


def differences(unbroken: Path, killed: Path) -> Iterator[str]:
    """Yield how the killed run differs from the unbroken one."""
    one, two = contents(unbroken), contents(killed)
    for name in sorted(one.keys() | two.keys()):
        if one.get(name) != two.get(name):
            yield f"stages/{name}: {_state(one, two, name)}"
    keys, others = stored(unbroken), stored(killed)
    if keys != others:
        yield f"calls: {len(keys - others)} missing, {len(others - keys)} more"
    counts, repeated = asked(unbroken), asked(killed)
    if counts != repeated:
        yield f"stages that asked differently: {sorted(counts - repeated)} against {sorted(repeated - counts)}"
    asked_again = [key for key, times in Counter(witness_of(killed).read_text().split()).items() if times > 1]
    if asked_again:
        yield f"{len(asked_again)} stored calls were asked again"
    if repeated_stages := list(started_when_done(manifest(killed))):
        yield f"finished stages ran again: {', '.join(repeated_stages)}"
    if left := list((killed / NAME / "work").glob("*")):
        yield f"work/ still holds {', '.join(path.name for path in left)}"


def started_when_done(events: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the stages that started after they had finished."""
    done: set[str] = set()
    for event in events:
        if event["event"] == "finished":
            done.add(event["stage"])
        elif event["event"] == "started" and event["stage"] in done:
            yield event["stage"]


def _state(one: dict[str, bytes], two: dict[str, bytes], name: str) -> str:
    if name not in two:
        return "missing"
    return "more" if name not in one else "other bytes"


def compare(command: Command, folder: Path, *, kills: int, seed: int) -> Outcome:
    """Run unbroken, run killed, compare."""
    unbroken, killed = folder / "unbroken", folder / "killed"
    whole = run_to_the_end(command, unbroken)
    print(f"unbroken: {whole.seconds:.1f} s after start-up", flush=True)
    attempts = kill_often(command, killed, draw_moments(unbroken, kills=kills, random=Random(seed)))
    found = list(differences(unbroken, killed))
    happened = sum(attempt.killed for attempt in attempts)
    if happened < kills:
        found.append(f"only {happened} of {kills} kills happened: choose a longer recipe or fewer kills")
    return Outcome(
        kills=happened,
        starts=len(attempts),
        files=len(contents(unbroken)),
        calls_unbroken=len(stored(unbroken)),
        calls_killed=len(stored(killed)),
        stages_hit=dict(Counter(attempt.stage or "between stages" for attempt in attempts if attempt.killed)),
        seconds_unbroken=round(whole.seconds, 1),
        seconds_killed=round(sum(attempt.seconds for attempt in attempts), 1),
        differences=found,
    )


def main() -> int:
    """Read the command line, compare, print a table and JSON."""
    if sys.argv[1:2] == ["--witness"]:
        run_with_witness(Path(sys.argv[2]), sys.argv[3:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--recipe", default="weak_to_strong/demo")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", dest="sets")
    parser.add_argument("--workspace", type=Path, help="keep both workspaces in this empty folder")
    arguments = parser.parse_args()
    command = Command(arguments.recipe, tuple(arguments.sets))
    with tempfile.TemporaryDirectory(prefix="kill-and-continue-") as temporary:
        folder = arguments.workspace or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        outcome = compare(command, folder, kills=arguments.kills, seed=arguments.seed)
    for name, value in asdict(outcome).items():
        if not isinstance(value, (dict, list)):
            print(f"{name:18} {value:>10}")
    for difference in outcome.differences:
        print(f"DIFFERENT: {difference}")
    print(json.dumps(asdict(outcome)))
    return bool(outcome.differences)


if __name__ == "__main__":
    sys.exit(main())
