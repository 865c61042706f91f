"""The self-play benchmark compares what it says: the same exchanges, the same calls, every answer the right one.

Nothing here looks at a speed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
from engine_arms import Measured
from engine_server import FixedLatencyServer, Stats, named_answer
from selfplay import ANSWER, Turn, cpu_of_loop, faster, of_loop, print_times, print_tokens, take_turn
from selfplay_arms import ALONE, ARMS, LOOP, STROP, request_of
from selfplay_players import ASKING, SAYING, answer, reply_to
from selfplay_sessions import ALL_PASS, NONE_PASSES, patients, rehearse, sessions
from selfplay_tokens import SCRIPTS, Compared, Tokens, compare, tokens_of

from strop.methods.selfplay.integrity import repeats
from strop.methods.selfplay.session_record import Turn as Said


def words(text: str) -> int:
    return len(text.split())


@pytest.fixture(scope="module")
def server() -> Iterator[FixedLatencyServer]:
    with FixedLatencyServer(latency_s=0.02, answer=ANSWER) as started:
        yield started


@pytest.mark.parametrize("arm", ARMS)
def test_every_client_asks_all_calls_and_gets_the_right_answers(server: FixedLatencyServer, arm: str) -> None:
    """Two patients with 24 calls each; a session of its own never has more than its five probes in flight."""
    measured = ARMS[arm](server, 2)
    seen = server.stats()
    assert (measured.calls, measured.right, seen.requests, seen.answered, seen.dropped) == (48, 48, 48, 48, 0)
    assert seen.most_at_once <= (5 if arm == ALONE else 10)


@pytest.mark.parametrize(
    ("script", "procedure", "exchanges", "calls"),
    [
        ("all pass, plans good", "strop", 4, 24),
        ("all pass, plans poor", "strop", 4, 60),
        ("none passes, plans good", "strop", 9, 69),
        ("none passes, plans poor", "strop", 9, 105),
        ("all pass, plans good", "published", 4, 26),
        ("all pass, plans poor", "published", 4, 62),
        ("none passes, plans good", "published", 9, 73),
        ("none passes, plans poor", "published", 9, 109),
    ],
)
def test_both_procedures_have_the_same_exchanges(script: str, procedure: str, exchanges: int, calls: int) -> None:
    """Ours: a group, the opening, 4 x 2 turns, 5 probes, 2 diagnoses, a choice, 2 plans of 3 calls: 24.

    Twelve more tries of 3 calls: 60. Five more rounds of 2 turns, 5 probes and 2 questions of the judge: 24 + 45 = 69.
    The released code asks two calls more, and for questions after the last round.
    """
    matcher, score = SCRIPTS[script]
    held = rehearse(sessions(patients(1), matcher=matcher, procedure=procedure)[0], score=score)
    assert held.record is not None
    assert (held.record.exchanges, len(held.calls)) == (exchanges, calls)
    assert (held.record.status, held.record.ledger, held.record.dropped) == ("complete", (), 0)
    assert {turn.tries for turn in held.record.dialogue} == {1}


def test_turns_are_as_long_as_people_speak_and_never_alike() -> None:
    assert all(40 <= words(text) <= 60 for text in SAYING)
    assert all(25 <= words(text) <= 35 for text in ASKING)
    every = [*SAYING, *ASKING]
    for place, text in enumerate(every):
        assert not repeats(text, [Said("patient", other) for other in every[:place]])


def test_an_answer_belongs_to_every_byte_of_its_request() -> None:
    ours = [told.text for told in rehearse(sessions(patients(1))[0]).calls]
    others = [told.text for told in rehearse(sessions(patients(2))[1]).calls]
    assert sum(left == right for left, right in zip(ours, others, strict=True)) <= 8, "turns of the therapist and marks"
    asked = ["You play a client. Your name: Ann", "What happened?"]
    assert reply_to(asked) != reply_to([asked[0] + " ", asked[1]])


def test_the_server_answers_as_a_rehearsal_does() -> None:
    for told in rehearse(sessions(patients(1))[0]).calls:
        request = json.loads(json.dumps(request_of(told)))
        assert answer(request) == json.loads(f'"{named_answer(ANSWER)(request)}"') == told.text
        assert {"temperature", "top_p", "seed", "max_tokens"} < set(request)


def test_a_session_takes_at_most_a_third_of_the_published_words(capsys: pytest.CaptureFixture[str]) -> None:
    """Words here, tokens in the benchmark; the lengths of the turns are its own."""
    found = compare(words, cards=2)
    assert len(found) == 2 * len(SCRIPTS)
    assert max(compared.ratio for compared in found) <= 1 / 3
    print_tokens(found)
    assert capsys.readouterr().out.count("selfplay tokens:") == len(SCRIPTS)


def test_tokens_are_those_of_all_requests_and_answers() -> None:
    script = rehearse(sessions(patients(1), matcher=ALL_PASS)[0])
    counted = tokens_of(script, len)
    read = [sum(len(text) for text in told.contents) for told in script.calls]
    assert (counted.read, counted.longest) == (sum(read), max(read))
    assert counted.written == sum(len(told.text) for told in script.calls)
    assert counted.total == counted.read + counted.written
    one, three = (Tokens(1, 4, read, 0, read, "complete") for read in (100, 300))
    assert Compared("any", "a", {"strop": one, "published": three}).ratio == pytest.approx(1 / 3)


def test_the_matcher_decides_by_one_constant() -> None:
    pairs = [("a", "b"), ("c", "d")]
    assert ALL_PASS.similarities(pairs) == [1.0, 1.0]
    assert NONE_PASSES.similarities(pairs) == [0.0, 0.0]


def test_ratios_are_of_one_round_and_by_patient(capsys: pytest.CaptureFixture[str]) -> None:
    """64 patients in 2 s, 4 alone in 4 s: 1 s over 1/32 s; the loop took 3 s and three times the processor."""

    def turn(arm: str, count: int, seconds: float, cpu_s: float) -> Turn:
        return Turn(arm, count, Measured(24 * count, right=24 * count - 1, seconds=seconds, cpu_s=cpu_s), Stats())

    turns = {STROP: turn(STROP, 64, 2, 1), LOOP: turn(LOOP, 64, 3, 3), ALONE: turn(ALONE, 4, 4, 1)}
    assert (faster(turns), of_loop(turns)) == (32.0, 1.5)
    assert cpu_of_loop(turns) == pytest.approx(1 / 3)
    print_times([turns, turns])
    printed = capsys.readouterr().out
    assert "one by one / strop = 32.00 [32.00, 32.00] times faster" in printed
    (line,) = [line for line in printed.splitlines() if line.startswith(STROP)]
    assert line.split()[-1] == "2", "one answer lost in each round"


@pytest.mark.slow
def test_a_turn_is_a_process_of_its_own(server: FixedLatencyServer) -> None:
    turn = take_turn(STROP, server, 2)
    assert (turn.client.calls, turn.client.right, turn.server.requests) == (48, 48, 48)
    assert turn.client.peak_mib > 5
