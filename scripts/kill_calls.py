"""A run of model calls that is killed again and again must lose no answer, pay for none twice, and end the same.

    python scripts/kill_calls.py --calls 10000 --kills 25 --seed 0

A server that fails at the usual rates (tests/models/fault_server.py) is asked by a program that stores every answer and
then writes them to a file. Unbroken in one folder; in another it is killed (SIGKILL) at random moments, spread over the
calls, started again, and at last left to end. The exit code is 1 on a difference.
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
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "models"))
from fault_server import FaultServer, Stats, answer_to

POLL_S = 0.01
LONGEST_DELAY_S = 0.05
"""The most that a kill comes after the answer that it waits for, so that it hits any part of the work."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the comparison came to; `differences` is empty when all is well.

    Attributes:
        calls: Answers stored in the killed run.
        kills: Kills that hit it.
        requests: What the server was asked in the killed run.
        failed: Requests that it failed on purpose.
        asked_again: Answers that were on their way at a kill and had to be asked for again.
    """

    calls: int
    kills: int
    requests: int
    failed: int
    asked_again: int
    seconds_unbroken: float
    seconds_killed: float
    differences: list[str] = field(default_factory=list)


def work(folder: Path, url: str, calls: int) -> None:
    """Ask every call, store by store, and write the answers to a file in one step."""
    from strop.models.asking import ask_each
    from strop.models.endpoints.endpoint import EndpointModel
    from strop.models.protocol import Sampling
    from strop.models.spec import parse_model
    from strop.runs.calls import StoredCall
    from strop.runs.store import CallStore

    model = EndpointModel(parse_model({"model": f"{url}#m", "revision": "1", "timeout": 3}))
    prompts = prompts_of(calls)
    with CallStore(folder / "calls.sqlite") as store:
        rows = ask_each(model, prompts, Sampling(max_tokens=8), store=store)
        temporary = folder / "answers.part"
        with temporary.open("w", encoding="utf-8") as file:
            for prompt, (answer,) in zip(prompts, rows, strict=True):
                assert isinstance(answer, StoredCall), answer
                file.write(json.dumps({"prompt": prompt, "answer": answer.text}) + "\n")
    temporary.replace(folder / "answers.jsonl")


def prompts_of(calls: int) -> list[str]:
    """Return the prompts, all different."""
    return [f"prompt {number}" for number in range(calls)]


def start(folder: Path, url: str, calls: int) -> subprocess.Popen[bytes]:
    """Start the program; what it says is kept beside its folder."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(Path(__file__).resolve()), "--work", str(folder), url, str(calls)]
    with folder.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def stored(folder: Path) -> set[str]:
    """Return the prompts whose answers are stored."""
    if not (folder / "calls.sqlite").exists():
        return set()
    with closing(sqlite3.connect(folder / "calls.sqlite", timeout=30)) as store, suppress(sqlite3.OperationalError):
        return {json.loads(request)["prompt"] for (request,) in store.execute("SELECT request FROM calls")}
    return set()


def count(folder: Path) -> int:
    """Return how many answers are stored."""
    if not (folder / "calls.sqlite").exists():
        return 0
    with closing(sqlite3.connect(folder / "calls.sqlite", timeout=30)) as store, suppress(sqlite3.OperationalError):
        return int(store.execute("SELECT count(*) FROM calls").fetchone()[0])
    return 0


def finish(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait for the program's end."""
    if process.wait() != 0:
        sys.exit(f"the program failed:\n{folder.with_suffix('.log').read_text(errors='replace')[-4000:]}")


def kill_at(process: subprocess.Popen[bytes], folder: Path, calls: int, delay: float) -> bool:
    """Kill the program a moment after so many answers are stored; say whether it was still running."""
    while process.poll() is None and count(folder) < calls:
        time.sleep(POLL_S)
    time.sleep(delay)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def run_killed(
    folder: Path, server: FaultServer, calls: int, *, kills: int, random: Random
) -> tuple[int, dict[str, int]]:
    """Kill the program again and again, then let it end.

    Returns:
        How many kills hit it; and by prompt how often it had been asked when its answer was first seen stored.
    """
    happened, asked_when_stored = 0, dict[str, int]()
    for threshold in sorted(random.sample(range(calls), kills)):
        process = start(folder, server.url, calls)
        happened += kill_at(process, folder, threshold, random.uniform(0, LONGEST_DELAY_S))
        asked = server.stats().asked
        for prompt in stored(folder) - asked_when_stored.keys():
            asked_when_stored[prompt] = asked[prompt]
    finish(start(folder, server.url, calls), folder)
    return happened, asked_when_stored


def differences(
    unbroken: Path, killed: Path, calls: int, stats: Stats, asked_when_stored: dict[str, int]
) -> Iterator[str]:
    """Yield how the killed run differs from the unbroken one, and what was asked without need."""
    for folder in (unbroken, killed):
        if (found := count(folder)) != calls:
            yield f"{folder.name}: {found} of {calls} answers stored"
    if keys(unbroken) != keys(killed):
        yield "the stores hold different calls"
    if (unbroken / "answers.jsonl").read_bytes() != (killed / "answers.jsonl").read_bytes():
        yield "answers.jsonl differs"
    wrong = sum(text != answer_to(prompt) for prompt, text in answers(killed))
    if wrong:
        yield f"{wrong} wrong answers"
    repeated = sum(stats.asked[prompt] > before for prompt, before in asked_when_stored.items())
    if repeated:
        yield f"{repeated} stored answers were asked for again"


def keys(folder: Path) -> list[str]:
    """Return the keys of the stored calls."""
    with closing(sqlite3.connect(folder / "calls.sqlite")) as store:
        return sorted(key for (key,) in store.execute("SELECT key FROM calls"))


def answers(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield prompt and answer of every line of the program's file."""
    for line in (folder / "answers.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield row["prompt"], row["answer"]


def compare(folder: Path, *, calls: int, kills: int, seed: int, latency_s: float = 0.02) -> Outcome:
    """Run unbroken, run killed, compare."""
    unbroken, killed = folder / "unbroken", folder / "killed"
    with FaultServer(seed=seed, latency_s=latency_s) as server:
        began = time.monotonic()
        finish(start(unbroken, server.url, calls), unbroken)
        seconds_unbroken = time.monotonic() - began
    with FaultServer(seed=seed + 1, latency_s=latency_s) as server:
        began = time.monotonic()
        happened, asked_when_stored = run_killed(killed, server, calls, kills=kills, random=Random(seed))
        seconds_killed = time.monotonic() - began
        stats = server.stats()
    found = list(differences(unbroken, killed, calls, stats, asked_when_stored))
    if happened < kills:
        found.append(f"only {happened} of {kills} kills hit the program")
    return Outcome(
        calls=count(killed),
        kills=happened,
        requests=stats.requests,
        failed=stats.faults.total(),
        asked_again=stats.answered.total() - calls,
        seconds_unbroken=round(seconds_unbroken, 1),
        seconds_killed=round(seconds_killed, 1),
        differences=found,
    )


def main() -> int:
    """Read the command line, compare, print a table and JSON."""
    if sys.argv[1:2] == ["--work"]:
        work(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0, help="of the faults and of the moments")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kill-calls-") as temporary:
        outcome = compare(Path(temporary), calls=arguments.calls, kills=arguments.kills, seed=arguments.seed)
    for name, value in asdict(outcome).items():
        if not isinstance(value, list):
            print(f"{name:18} {value:>10}")
    for difference in outcome.differences:
        print(f"DIFFERENT: {difference}")
    print(json.dumps(asdict(outcome)))
    return bool(outcome.differences)


if __name__ == "__main__":
    sys.exit(main())
