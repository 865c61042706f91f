"""The throughput benchmark measures what it says: its server answers each request rightly, and its clients ask all.

Nothing here looks at a speed.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
from engine import Turn, cpu_ratios, print_table, ratios, take_turn
from engine_arms import ARMS, BASELINE, Measured
from engine_server import CHAT, COMPLETION, MODELS, FixedLatencyServer, Stats, content_length
from engine_work import IN_FLIGHT, MODEL, Prompts, answer_to, count_right, prompt

CALLS = 200


@pytest.fixture(scope="module")
def server() -> Iterator[FixedLatencyServer]:
    with FixedLatencyServer(latency_s=0.02) as started:
        yield started


@pytest.mark.parametrize("arm", ARMS)
def test_every_client_asks_all_calls_and_gets_the_right_answers(server: FixedLatencyServer, arm: str) -> None:
    measured = Measured(CALLS)
    ARMS[arm](server, measured)
    seen = server.stats()
    assert (measured.right, seen.requests, seen.answered, seen.dropped) == (CALLS, CALLS, CALLS, 0)
    assert 1 < seen.most_at_once <= IN_FLIGHT
    assert seen.held_s >= CALLS * 0.02
    assert measured.seconds > 0


def test_the_answer_belongs_to_the_prompt(server: FixedLatencyServer) -> None:
    """A prompt or a conversation's last message, as text or in parts."""
    from openai import OpenAI

    with OpenAI(base_url=server.url, api_key="none") as client:
        plain = client.completions.create(model=MODEL, prompt="Straße\n☂")
        parts = client.chat.completions.create(
            model=MODEL,
            messages=[
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "Straße\n"}, {"type": "text", "text": "☂"}]},
            ],
        )
        assert [model.id for model in client.models.list()] == [MODEL]
    assert plain.choices[0].text == parts.choices[0].message.content == answer_to("Straße\n☂")
    assert plain.usage is not None
    assert plain.usage.completion_tokens == 4


def test_what_is_no_request_is_refused(server: FixedLatencyServer) -> None:
    """Requests in one piece, in many pieces, two at a time; and no JSON, no messages, no such path."""
    host, port = server.root.removeprefix("http://").split(":")

    def post(path: str, body: bytes) -> bytes:
        return b"POST %s HTTP/1.1\r\ncontent-length: %d\r\n\r\n%s" % (path.encode(), len(body), body)

    good = post("/v1/completions", json.dumps({"prompt": "x"}).encode())
    bad = [post("/v1/completions", b"{"), post("/v1/chat/completions", b'{"messages": []}'), post("/v2", b"")]
    with socket.create_connection((host, int(port))) as connection, connection.makefile("rb") as replies:
        connection.sendall(good[:9])
        connection.sendall(good[9:] + good)
        found = [_read_reply(replies) for _ in range(2)]
        for request in bad:
            connection.sendall(request)
            found.append(_read_reply(replies))
    assert [status for status, _ in found] == [200, 200, 400, 400, 404]
    assert json.loads(found[1][1])["choices"][0]["text"] == answer_to("x")


def _read_reply(replies: BufferedReader) -> tuple[int, bytes]:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = replies.readline()
        assert line, head
        head += line
    return int(head.split(b" ")[1]), replies.read(content_length(head))


def test_the_server_ends_with_its_block() -> None:
    with FixedLatencyServer() as started:
        host, port = started.root.removeprefix("http://").split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5).close()


def test_templates_are_json() -> None:
    for template in (CHAT, COMPLETION):
        assert MODEL in json.dumps(json.loads(template % answer_to("x")))
    assert json.loads(MODELS)["data"][0]["id"] == MODEL


def test_prompts_are_distinct_and_made_on_demand() -> None:
    prompts = Prompts(1000)
    assert len(set(prompts)) == len(prompts) == 1000
    assert (prompts[3], prompts[-1], prompts[1:3]) == (prompt(3), prompt(999), [prompt(1), prompt(2)])
    with pytest.raises(IndexError):
        prompts[1000]


def test_an_answer_in_the_wrong_row_counts_as_lost() -> None:
    swapped = [("a", answer_to("b")), ("b", answer_to("a")), ("c", answer_to("c")), ("d", None)]
    assert count_right(swapped) == 1


def test_a_turn_is_a_process_of_its_own(server: FixedLatencyServer) -> None:
    turn = take_turn("raw sockets", server, 70)
    assert (turn.client.right, turn.server.requests) == (70, 70)
    assert 1 < turn.server.most_at_once <= IN_FLIGHT
    assert turn.client.peak_mib > 5


def test_ratios_compare_arms_of_one_round(capsys: pytest.CaptureFixture[str]) -> None:
    """The loop takes 10 s, then 20 s for 100 calls, every other arm 20 s, then 25 s: ratios .5 and .8, median .65."""

    def turns(loop_s: float, other_s: float) -> list[Turn]:
        return [
            Turn(arm, Measured(100, right=99, seconds=loop_s if arm == BASELINE else other_s, cpu_s=1.0), Stats())
            for arm in ARMS
        ]

    rounds = [turns(10, 20), turns(20, 25)]
    assert ratios(rounds, "strop") == [0.5, 0.8]
    assert cpu_ratios(rounds, "strop") == [1.0, 1.0]
    print_table(rounds)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("strop")]
    assert "0.65 [0.50, 0.80]" in line
    assert line.split()[-3:] == ["10.00", "0", "2"]
