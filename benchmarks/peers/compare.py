"""`strop generate` beside distilabel and Inspect: the same calls of one server, each in an environment of its own.

    python benchmarks/peers/compare.py [--calls 10000] [--rounds 1] [--only NAME ...] [--json FILE]

Two figures for each, since starting up and going fast are different things: answers a second between the first request
and the last answer, as the server saw them, and the seconds of the whole process, which include imports, reading the
prompts and writing the answers. Every client may have 64 calls in flight, and every answer is checked. The loop over
the `openai` client, which keeps nothing, is the baseline of the first figure. The clients take turns. `make
bench-peers` sets the environments up first.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
BENCHMARKS = HERE.parent
ENVIRONMENTS = BENCHMARKS.parent / ".bench-peers"
sys.path.insert(0, str(BENCHMARKS))  # the server and the work are the engine benchmark's

from engine_server import FixedLatencyServer, Stats  # noqa: E402
from engine_work import IN_FLIGHT, LATENCY_S  # noqa: E402

BASELINE = "openai loop"
OWN_ENVIRONMENT = ""
CLIENTS = {
    "strop": (OWN_ENVIRONMENT, "run_strop.py"),
    "distilabel": ("distilabel", "run_distilabel.py"),
    "inspect-ai": ("inspect-ai", "run_inspect.py"),
    "inspect lean": ("inspect-ai", "run_inspect.py", "lean"),
}
"""Environment, script and what else the script is told."""
MOST_MINUTES = 30.0
LINES_SHOWN = 15


@dataclass(frozen=True)
class Finished:
    """What became of one client's process.

    Attributes:
        client: Whose.
        right: How many right answers it came back with; None where it did not end well.
        seconds: From its start to its end.
        cpu_s: Processor seconds of it and its children.
        peak_mib: The largest resident memory of one of its processes.
        server: What the server saw.
    """

    client: str
    right: int | None
    seconds: float
    cpu_s: float
    peak_mib: float
    server: Stats


def command_of(client: str, server: FixedLatencyServer, calls: int, scratch: Path) -> list[str]:
    """Return how a client is started."""
    if client == BASELINE:
        own = [sys.executable, str(BENCHMARKS / "engine.py")]
        return [*own, "--arm", client, "--root", server.root, "--calls", str(calls)]
    home, script, *told = CLIENTS[client]
    python = sys.executable if home == OWN_ENVIRONMENT else str(ENVIRONMENTS / home / "bin" / "python")
    return [python, str(HERE / script), server.root, str(calls), str(scratch), *told]


def environment(scratch: Path) -> dict[str, str]:
    """Return the environment of every client: caches in the scratch folder, no log line for every request."""
    own = {
        "PYTHONPATH": os.pathsep.join([str(BENCHMARKS), str(BENCHMARKS.parent / "src")]),
        "XDG_CACHE_HOME": str(scratch),
        "XDG_DATA_HOME": str(scratch),
        "HF_HOME": str(scratch),
        "HF_HUB_OFFLINE": "1",
        "DISTILABEL_LOG_LEVEL": "WARNING",
    }
    return os.environ | own


def run_client(client: str, server: FixedLatencyServer, calls: int) -> Finished:
    """Run a client as a process of its own; one that fails or takes too long is shown, not hidden."""
    server.reset()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        output, errors = scratch / "stdout.txt", scratch / "stderr.txt"
        started = time.perf_counter()
        with output.open("w") as out, errors.open("w") as err:
            command = command_of(client, server, calls, scratch)
            process = subprocess.Popen(command, stdout=out, stderr=err, env=environment(scratch))
            usage = _wait(process)
        seconds = time.perf_counter() - started
        right = None
        if process.returncode == 0:
            right = int(json.loads(output.read_text().splitlines()[-1])["right"])
        else:
            last = errors.read_text().splitlines()[-LINES_SHOWN:]
            print(f"{client} ended with {process.returncode}:", *last, sep="\n", flush=True)
    peak_mib = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**20
    return Finished(client, right, seconds, usage.ru_utime + usage.ru_stime, peak_mib, server.stats())


def _wait(process: subprocess.Popen[bytes]) -> resource.struct_rusage:
    """Wait as `Popen.wait` does, for what the process and its children took."""
    alarm = threading.Timer(MOST_MINUTES * 60, process.kill)
    alarm.daemon = True
    alarm.start()
    _, status, usage = os.wait4(process.pid, 0)
    alarm.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage


COLUMNS = (
    ("client", 13),
    ("calls/s", 9),
    ("over the loop", 15),
    ("whole process", 15),
    ("CPU s/1,000", 13),
    ("MiB", 7),
    ("in flight", 11),
    ("requests", 10),
    ("lost", 8),
)


def print_table(rounds: list[dict[str, Finished]], calls: int) -> None:
    """Print one line a client: medians over the rounds, and the worst of what must not happen."""
    print("".join(f"{name:>{width}}" for name, width in COLUMNS))
    for client in rounds[0]:
        turns = [turns[client] for turns in rounds]
        cells = (
            client,
            f"{median(turn.server.calls_per_s for turn in turns):,.0f}",
            _over_the_loop(rounds, client),
            f"{median(turn.seconds for turn in turns):,.1f} s",
            f"{median(turn.cpu_s for turn in turns) / calls * 1000:.2f}",
            f"{max(turn.peak_mib for turn in turns):,.0f}",
            str(max(turn.server.most_at_once for turn in turns)),
            f"{max(turn.server.requests for turn in turns):,}",
            f"{max(calls - (turn.right or 0) for turn in turns):,}",
        )
        print("".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, COLUMNS, strict=True)))


def _over_the_loop(rounds: list[dict[str, Finished]], client: str) -> str:
    if BASELINE not in rounds[0]:
        return "-"
    shares = [turns[client].server.calls_per_s / turns[BASELINE].server.calls_per_s for turns in rounds]
    return f"{median(shares):.2f}"


def main() -> int:
    """Run the comparison from the command line; return 1 where a client failed."""
    every = [BASELINE, *CLIENTS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=every, default=every)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    print(
        f"{arguments.calls:,} calls, {IN_FLIGHT} in flight, {LATENCY_S * 1000:.0f} ms, {arguments.rounds} rounds",
        flush=True,
    )
    rounds: list[dict[str, Finished]] = []
    with FixedLatencyServer() as server:
        for _ in range(arguments.rounds):
            rounds.append({client: run_client(client, server, arguments.calls) for client in arguments.only})
    print_table(rounds, arguments.calls)
    if arguments.json is not None:
        turns = [asdict(turn) for found in rounds for turn in found.values()]
        arguments.json.write_text(json.dumps({"calls": arguments.calls, "turns": turns}, indent=2) + "\n")
    return any(turn.right is None for found in rounds for turn in found.values())


if __name__ == "__main__":
    sys.exit(main())
