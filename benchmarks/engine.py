"""How near strop comes to the calls a second that an endpoint can give, with every answer stored before it is used.

    python benchmarks/engine.py [--calls 2000] [--rounds 3] [--no-memory] [--json FILE]

A server that takes 50 ms for each call, 64 calls in flight: 1,280 calls a second would be ideal. The baseline is the
script that one would write instead, a loop over the `openai` client in 64 workers that keeps the texts in a list; the
same in threads is beside it, and sockets without a client, which show what the server and the machine can give. The
arms take turns on one server, each in a fresh process, and a ratio compares two arms of one round. Target: 90 % of the
ideal, or where the machine is too slow for the loop itself, 95 % of the loop. Memory: strop with ten times the calls
must need about as much as with one time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from engine_arms import ARMS, BASELINE, Measured, run_arm
from engine_server import FixedLatencyServer, Stats
from engine_work import IDEAL_PER_S, IN_FLIGHT, LATENCY_S

TARGET = 0.95
MORE = 10
"""How many times the calls the larger of the two runs has whose memory is compared."""


@dataclass(frozen=True)
class Turn:
    """One arm in one round: what the client measured, and what the server saw."""

    arm: str
    client: Measured
    server: Stats


def take_turn(arm: str, server: FixedLatencyServer, calls: int) -> Turn:
    """Run an arm in a fresh process."""
    command = [sys.executable, __file__, "--arm", arm, "--root", server.root, "--calls", str(calls)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Turn(arm, Measured(**json.loads(done.stdout.splitlines()[-1])), server.stats())


def measure(*, calls: int, rounds: int) -> list[list[Turn]]:
    """Let all arms take turns, every round in another order."""
    arms = list(ARMS)
    starts = [count % len(arms) for count in range(rounds)]
    with FixedLatencyServer() as server:
        return [[take_turn(arm, server, calls) for arm in arms[start:] + arms[:start]] for start in starts]


def ratios(rounds: list[list[Turn]], arm: str) -> list[float]:
    """Return the arm's calls a second over the baseline's, by round."""
    speeds = [{turn.arm: turn.client.calls_per_s for turn in turns} for turns in rounds]
    return [speed[arm] / speed[BASELINE] for speed in speeds]


def cpu_ratios(rounds: list[list[Turn]], arm: str) -> list[float]:
    """Return the arm's processor seconds over the baseline's, by round: a crowded machine changes these least."""
    seconds = [{turn.arm: turn.client.cpu_s for turn in turns} for turns in rounds]
    return [second[arm] / second[BASELINE] for second in seconds]


def spread(values: list[float], digits: int) -> str:
    """Return the median and the range."""
    return f"{median(values):,.{digits}f} [{min(values):,.{digits}f}, {max(values):,.{digits}f}]"


def print_table(rounds: list[list[Turn]]) -> None:
    """Print one line an arm: medians over the rounds with their ranges."""
    print(f"{'':15} {'calls/s':>22} {'of ideal':>9} {'over the loop':>20} {'CPU s/1,000':>12} {'MiB':>5} {'lost':>5}")
    for arm in ARMS:
        turns = [turn for found in rounds for turn in found if turn.arm == arm]
        speeds = [turn.client.calls_per_s for turn in turns]
        cpu = median(turn.client.cpu_s / turn.client.calls * 1000 for turn in turns)
        peak = max(turn.client.peak_mib for turn in turns)
        lost = sum(turn.client.calls - turn.client.right for turn in turns)
        print(
            f"{arm:15} {spread(speeds, 0):>22} {median(speeds) / IDEAL_PER_S:>9.0%} "
            f"{spread(ratios(rounds, arm), 2):>20} {cpu:>12.2f} {peak:>5.0f} {lost:>5}"
        )
    every = [turn for found in rounds for turn in found]
    server_cpu = median(turn.server.cpu_s / max(turn.server.requests, 1) * 1000 for turn in every)
    most = min(turn.server.most_at_once for turn in every)
    print(f"the server took {server_cpu:.2f} CPU s per 1,000 calls; at least {most} calls were in flight in each turn")


def measure_memory(*, calls: int) -> dict[int, float]:
    """Return strop's peak memory in MiB, in a fresh process for each number of calls."""
    with FixedLatencyServer() as server:
        return {count: take_turn("strop", server, count).client.peak_mib for count in (calls, calls * MORE)}


def main() -> None:
    """Run the benchmark from the command line, or one arm of it for the benchmark itself."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-memory", action="store_true", help=f"leave out the turn with {MORE} times the calls")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--arm", choices=list(ARMS), help="run this arm alone, in this process")
    parser.add_argument("--root", help="of the server, for --arm")
    arguments = parser.parse_args()
    if arguments.arm:
        print(json.dumps(asdict(run_arm(arguments.arm, arguments.root, arguments.calls))))
        return
    print(
        f"{arguments.calls:,} calls, {IN_FLIGHT} in flight, {LATENCY_S * 1000:.0f} ms each; {arguments.rounds} rounds"
    )
    rounds = measure(calls=arguments.calls, rounds=arguments.rounds)
    print_table(rounds)
    print(f"engine: strop / openai loop = {spread(ratios(rounds, 'strop'), 2)} of its calls/s  (target >= {TARGET})")
    print(f"engine: strop / openai loop = {spread(cpu_ratios(rounds, 'strop'), 2)} of its CPU seconds", flush=True)
    memory: dict[int, float] = {}
    if not arguments.no_memory:
        memory = measure_memory(calls=arguments.calls)
        few, many = memory.values()
        counts = " calls / ".join(f"{count:,}" for count in reversed(memory))
        print(f"engine memory: {counts} calls = {many:.0f} MiB / {few:.0f} MiB = {many / few:.2f}  (target: flat)")
    if arguments.json is not None:
        turns = [asdict(turn) for found in rounds for turn in found]
        arguments.json.write_text(json.dumps({"turns": turns, "memory_mib": memory}, indent=2) + "\n")


if __name__ == "__main__":
    main()
