"""What a session of self-play costs in tokens and in time, measured beside what it is compared with.

    python benchmarks/selfplay.py [--patients 64] [--rounds 3] [--alone 4] [--cards 28] [--json FILE]

Tokens: one patient's session, ours against the published pattern of calls, with the same scripted players and the same
number of exchanges; tokens of SmolLM2, of all requests and answers. Target: at most one third.

Time: sessions of many patients against a server that takes 50 ms for each call, with 64 calls in flight. Three clients
take turns, each in a fresh process: strop with all sessions side by side, strop with one session after the other (few
of them, and the time is multiplied), and a loop over the `openai` client, a coroutine for each patient, that asks the
same requests in the same order, recorded beforehand. A ratio compares two clients of one round. Targets: at least 30
times faster than one after the other, or where the cores cap it, at least 90 % of the loop. One constant stands for
every similarity, so that no encoder is measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median

from engine import spread
from engine_arms import Measured
from engine_server import FixedLatencyServer, Stats
from engine_work import IN_FLIGHT, LATENCY_S
from selfplay_arms import ALONE, ARMS, LOOP, STROP, run_arm
from selfplay_sessions import PROCEDURES, patients, rehearse, sessions
from selfplay_tokens import SCRIPTS, Compared, compare, of_script, smollm2

TOKENS_TARGET = 1 / 3
FASTER_TARGET, LOOP_TARGET = 30, 0.9
ANSWER = "selfplay_players:answer"
CARDS = 28


@dataclass(frozen=True)
class Turn:
    """One client in one round: how many patients it had, what it measured, and what the server saw."""

    arm: str
    patients: int
    client: Measured
    server: Stats


Round = dict[str, Turn]


def take_turn(arm: str, server: FixedLatencyServer, count: int) -> Turn:
    """Run an arm in a fresh process."""
    command = [sys.executable, __file__, "--arm", arm, "--root", server.root, "--patients", str(count)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Turn(arm, count, Measured(**json.loads(done.stdout.splitlines()[-1])), server.stats())


def measure(*, count: int, alone: int, rounds: int) -> list[Round]:
    """Let the arms take turns, every round in another order."""
    arms = list(ARMS)
    found: list[Round] = []
    with FixedLatencyServer(answer=ANSWER) as server:
        for number in range(rounds):
            start = number % len(arms)
            order = arms[start:] + arms[:start]
            turns = {arm: take_turn(arm, server, alone if arm == ALONE else count) for arm in order}
            print(
                f"round {number + 1}: {', '.join(f'{arm} {turns[arm].client.seconds:.2f} s' for arm in arms)}",
                flush=True,
            )
            found.append(turns)
    return found


def faster(turns: Round) -> float:
    """Return how many times faster strop holds sessions side by side than one after the other, patient by patient."""
    alone, together = turns[ALONE], turns[STROP]
    return (alone.client.seconds / alone.patients) / (together.client.seconds / together.patients)


def of_loop(turns: Round) -> float:
    """Return strop's speed over the loop's."""
    return turns[LOOP].client.seconds / turns[STROP].client.seconds


def cpu_of_loop(turns: Round) -> float:
    """Return strop's processor seconds over the loop's: a crowded machine changes these least."""
    return turns[STROP].client.cpu_s / turns[LOOP].client.cpu_s


def print_tokens(found: Sequence[Compared]) -> None:
    """Print, for each script, the means over the patients."""
    print(f"{'':24} {'':10} {'exchanges':>9} {'calls':>6} {'tokens':>10} {'longest request':>16} {'complete':>9}")
    for script in SCRIPTS:
        for procedure in PROCEDURES:
            every = [compared.tokens[procedure] for compared in of_script(found, script)]
            print(
                f"{script:24} {procedure:10} {mean(each.exchanges for each in every):>9.0f} "
                f"{mean(each.calls for each in every):>6.0f} {mean(each.total for each in every):>10,.0f} "
                f"{max(each.longest for each in every):>16,} {sum(each.status == 'complete' for each in every):>9}"
            )
    for script in SCRIPTS:
        ratios = [compared.ratio for compared in of_script(found, script)]
        print(f"selfplay tokens: {script}: strop / published = {spread(ratios, 3)}  (target <= {TOKENS_TARGET:.3f})")


def print_times(rounds: Sequence[Round]) -> None:
    """Print one line an arm, medians over the rounds with their ranges, and the ratios of each round."""
    print(f"{'':12} {'patients':>8} {'seconds':>22} {'calls/s':>8} {'CPU s/1,000':>12} {'in flight':>10} {'lost':>5}")
    for arm in ARMS:
        turns = [found[arm] for found in rounds]
        cpu = median(turn.client.cpu_s / turn.client.calls * 1000 for turn in turns)
        print(
            f"{arm:12} {turns[0].patients:>8} {spread([turn.client.seconds for turn in turns], 2):>22} "
            f"{median(turn.client.calls_per_s for turn in turns):>8.0f} {cpu:>12.2f} "
            f"{median(turn.server.most_at_once for turn in turns):>10.0f} "
            f"{sum(turn.client.calls - turn.client.right for turn in turns):>5}"
        )
    lines: list[tuple[str, Callable[[Round], float], str]] = [
        ("one by one / strop = {} times faster", faster, f"target >= {FASTER_TARGET}, or"),
        ("strop / openai loop = {} of its speed", of_loop, f"target >= {LOOP_TARGET}"),
        ("strop / openai loop = {} of its CPU seconds", cpu_of_loop, "the same calls"),
    ]
    for text, ratio, target in lines:
        every = [ratio(found) for found in rounds]
        singly = ", ".join(f"{value:.2f}" for value in every)
        print(f"selfplay time: {text.format(spread(every, 2))}  ({target}; by round {singly})")


def describe(count: int, alone: int, rounds: int) -> str:
    """Say what is measured, and what could be reached at best."""
    script = rehearse(sessions(patients(1))[0])
    steps = len(script.groups)
    return (
        f"{count} patients with {len(script.calls)} calls each in {steps} steps, {IN_FLIGHT} in flight, "
        f"{LATENCY_S * 1000:.0f} ms a call: a session takes {steps * LATENCY_S:.2f} s at least, and all together "
        f"{max(steps, len(script.calls) * count / IN_FLIGHT) * LATENCY_S:.2f} s; one by one: {alone} patients, scaled; "
        f"{rounds} rounds"
    )


def main() -> None:
    """Run the benchmark from the command line, or one arm of it for the benchmark itself."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3, help="0 leaves the times out")
    parser.add_argument("--alone", type=int, default=4, help="patients of the arm that treats one after the other")
    parser.add_argument("--cards", type=int, default=CARDS, help="patients whose tokens are counted; 0 leaves them out")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--arm", choices=list(ARMS), help="run this arm alone, in this process")
    parser.add_argument("--root", help="of the server, for --arm")
    arguments = parser.parse_args()
    if arguments.arm:
        print(json.dumps(asdict(run_arm(arguments.arm, arguments.root, arguments.patients))))
        return
    compared: list[Compared] = []
    rounds: list[Round] = []
    if arguments.cards:
        compared = compare(smollm2(), cards=arguments.cards)
        print_tokens(compared)
    if arguments.rounds:
        print(describe(arguments.patients, arguments.alone, arguments.rounds), flush=True)
        rounds = measure(count=arguments.patients, alone=arguments.alone, rounds=arguments.rounds)
        print_times(rounds)
    if arguments.json is not None:
        figures = {
            "tokens": [asdict(each) for each in compared],
            "turns": [asdict(turn) for found in rounds for turn in found.values()],
        }
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
