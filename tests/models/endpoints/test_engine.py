"""The engine against servers that lie, hang, echo keys, disappear: nothing lost, nothing doubled, one clear message."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fault_server import FaultServer, answer_to
from openai_server import OpenAIServer
from raw_server import RawServer, Request, answer, response
from strop.errors import Stopped, UserError
from strop.models.asking import ask, ask_each
from strop.models.endpoints.endpoint import EndpointModel
from strop.models.local import LocalModel
from strop.models.protocol import Call, CallFailure, Completion, Outcome, Sampling
from strop.models.spec import parse_model
from strop.runs.calls import FailedCall, StoredCall
from strop.runs.store import CallStore

SAMPLING = Sampling(max_tokens=8)
MIB = 2**20


def endpoint(url: str, **options: Any) -> EndpointModel:
    given = {"model": f"{url}#m", "chat": "on", "retries": 1, "timeout": 10, "retry_for": 20, **options}
    return EndpointModel(parse_model(given))


def outcomes(model: EndpointModel, prompts: Iterable[str], sampling: Sampling = SAMPLING) -> dict[int, Outcome]:
    """Return what became of every prompt; an index must not come twice."""
    pairs = [pair for batch in model.complete(Call(prompt, sampling) for prompt in prompts) for pair in batch]
    assert len({index for index, _ in pairs}) == len(pairs)
    return dict(pairs)


def failed_with(reply: bytes | Callable[[], Iterable[bytes]], **options: Any) -> CallFailure:
    with RawServer(lambda _: reply if isinstance(reply, bytes) else reply()) as server:
        outcome = outcomes(endpoint(server.url, retries=0, **options), ["go"])[0]
    assert isinstance(outcome, CallFailure)
    return outcome


def engine_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "strop-endpoint"]


def run_against_faults(calls: int, store: CallStore, *, faults: float, latency_s: float, timeout: float) -> None:
    prompts = [f"prompt {number}" for number in range(calls)]
    with FaultServer(seed=1, latency_s=latency_s, faults=faults) as server:
        answers = ask(endpoint(server.url, retries=4, timeout=timeout), prompts, SAMPLING, store=store)
        stats = server.stats()
    assert answers == [[answer_to(prompt)] for prompt in prompts]
    assert len(stats.answered) == calls
    assert set(stats.answered.values()) == {1}, "an answer in full that did not count"
    sizes = store.sizes()
    assert sizes.calls == calls
    assert sizes.failures == stats.faults.total() == stats.requests - calls
    assert stats.attempts <= 6
    assert {"rate_limit", "server", "hang", "truncated", "reset", "empty"} == set(stats.faults)


def test_a_server_with_faults_of_all_kinds_costs_no_call_and_doubles_none(store: CallStore) -> None:
    """400 calls at twice the rates, so that every fault comes."""
    run_against_faults(400, store, faults=2.0, latency_s=0.01, timeout=1.0)


@pytest.mark.slow
def test_ten_thousand_calls_to_a_server_with_faults(store: CallStore) -> None:
    run_against_faults(10_000, store, faults=1.0, latency_s=0.02, timeout=3.0)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (response(b'{"choices": "\xff\xfe"}'), "malformed"),
        (response(answer()[:-9]), "malformed"),
        (response(answer(), length=10_000) + b"", "timeout"),
        (response("<html>hello</html>", headers={"Content-Type": "text/html"}), "malformed"),
        (response(""), "malformed"),
        (response("[" * 100_000), "malformed"),
        (response("9" * 10_000), "malformed"),
        (b"\x00\x01\x02 not http at all\r\n\r\n", "malformed"),
        (response(answer("", usage=(3, 0))), "malformed"),
        (response(answer(None)), "malformed"),
        (response(json.dumps({"error": {"message": "overloaded"}})), "malformed"),
        (response(answer("", usage=(9000, 0), finish="length")), "context"),
        (response(answer("no", finish="content_filter")), "content_filter"),
    ],
)
def test_a_reply_that_is_no_answer_is_a_failure_of_its_kind(reply: bytes, kind: str) -> None:
    failure = failed_with(reply, timeout=0.6)
    assert failure.kind == kind
    assert failure.message


def test_an_empty_text_with_a_token_is_an_answer() -> None:
    with RawServer(lambda _: response(answer("", usage=(3, 1)))) as server:
        outcome = outcomes(endpoint(server.url), ["go"])[0]
    assert isinstance(outcome, Completion)
    assert outcome.text == ""


def test_a_huge_reply_is_cut_off_and_takes_no_memory() -> None:
    """200 MB are sent; the reading stops at 4 MiB."""

    def pieces() -> Iterator[bytes]:
        yield response(b"", length=200_000_000)
        for _ in range(200):
            yield b"x" * 1_000_000

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    failure = failed_with(pieces, max_reply_bytes=4 * MIB)
    assert (failure.kind, failure.transient) == ("too_large", False)
    assert "max_reply_bytes" in failure.message
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 60 * MIB


def test_a_compressed_reply_is_not_unpacked(store: CallStore) -> None:
    bomb = response(gzip.compress(b" " * 50 * MIB), headers={"Content-Encoding": "gzip"})
    with RawServer(lambda _: bomb) as server, pytest.raises(UserError, match="compressed"):
        ask(endpoint(server.url), ["go"], SAMPLING, store=store)
    assert server.requests[0].headers["accept-encoding"] == "identity"


def test_a_redirect_is_told_and_not_followed(store: CallStore) -> None:
    moved = response("", status=307, headers={"Location": "http://elsewhere.example/v1"})
    with RawServer(lambda _: moved) as server, pytest.raises(UserError, match=r"elsewhere\.example"):
        ask(endpoint(server.url), ["go"], SAMPLING, store=store)
    assert len(server.requests) == 1


def test_a_server_that_never_answers_is_one_clear_stop(store: CallStore) -> None:
    with (
        RawServer(lambda _: None) as server,
        pytest.raises(Stopped, match=r"20 requests in a row failed .* \(timeout\)"),
    ):
        ask(endpoint(server.url, timeout=0.2, retries=0), [f"go {n}" for n in range(1000)], SAMPLING, store=store)
    assert len(server.requests) < 40
    assert store.sizes().calls == 0


REFUSALS = [
    (response('{"error": {"message": "bad key"}}', status=401), "authentication", "api_key_env"),
    (response('{"error": {"message": "not for you"}}', status=403), "permission", "may use"),
    (response("<html>404</html>", status=404), "not_found", "/v1"),
    (response('{"error": {"message": "The model `m` does not exist."}}', status=404), "no_model", "did you mean #mm?"),
    (response('{"object": "error", "message": "model m not found"}', status=400), "no_model", "available: mm, other"),
    (response('{"error": {"message": "x", "code": "insufficient_quota"}}', status=429), "quota", "plan and limits"),
]


@pytest.mark.parametrize(("reply", "kind", "fix"), REFUSALS)
def test_what_every_request_would_meet_is_said_after_one(reply: bytes, kind: str, fix: str, store: CallStore) -> None:
    listed = response('{"data": [{"id": "mm"}, {"id": "other"}]}')
    server = RawServer(lambda request: reply if request.method == "POST" else listed)
    with server, pytest.raises(UserError, match=f"refuses every request .{kind}") as raised:
        ask(endpoint(server.url), [f"go {n}" for n in range(1000)], SAMPLING, store=store)
    assert fix in str(raised.value)
    assert sum(request.method == "POST" for request in server.requests) == 1


def test_requests_that_all_fail_for_good_stop_the_run(store: CallStore) -> None:
    refused = response('{"error": {"message": "max_tokens is unknown"}}', status=400)
    with RawServer(lambda _: refused) as server, pytest.raises(UserError, match="20 requests in a row failed"):
        ask(endpoint(server.url), [f"go {n}" for n in range(1000)], SAMPLING, store=store)
    assert len(server.requests) < 60


CONTEXT_WORDINGS = [
    '{"error": {"message": "This model\'s maximum context length is 8192 tokens. However, your messages resulted in '
    '9000 tokens. Please reduce the length of the messages.", "code": "context_length_exceeded"}}',
    '{"object": "error", "message": "This model\'s maximum context length is 2048 tokens. However, you requested 3000 '
    'tokens (2990 in the messages, 10 in the completion).", "type": "BadRequestError", "code": 400}',
    '{"error": {"code": 400, "message": "the request exceeds the available context size, try increasing it", '
    '"type": "exceed_context_size_error", "n_prompt_tokens": 99, "n_ctx": 64}}',
    '{"detail": "The decoder prompt (length 5000) is longer than the maximum model length of 4096."}',
    '{"error": {"message": "input is too long for this model"}}',
]


@pytest.mark.parametrize("wording", CONTEXT_WORDINGS)
def test_an_overlong_prompt_is_a_failure_of_its_own_and_the_run_goes_on(wording: str, store: CallStore) -> None:
    def respond(request: Request) -> bytes:
        long = "long" in request.body["messages"][0]["content"]
        return response(wording, status=400) if long else response(answer())

    prompts = ["a", "long", "b", *(f"long {number}" for number in range(30)), "c"]
    with RawServer(respond) as server:
        rows = list(ask_each(endpoint(server.url), prompts, SAMPLING, store=store))
    for prompt, (row,) in zip(prompts, rows, strict=True):
        if "long" in prompt:
            assert isinstance(row, FailedCall)
            assert row.kind == "context"
        else:
            assert isinstance(row, StoredCall)
            assert row.text == "fine"
    assert len(server.requests) == len(prompts)
    assert Counter(request.body["messages"][0]["content"] for request in server.requests) == Counter(prompts)


KEY = "sk-planted-Aa0/+_key=="


def test_a_planted_key_is_nowhere(
    store: CallStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server echoes it in answers, headers and errors; store, logs and messages hold none of its forms."""
    monkeypatch.setenv("MY_KEY", KEY)
    encoded = base64.b64encode(f"Bearer {KEY}".encode()).decode()
    echo = {"X-Request-Id": KEY, "X-Auth": f"Bearer {KEY}"}
    replies = iter(
        [
            response(answer(f"your key is {KEY}, or {encoded}"), headers=echo),
            response(f'{{"error": {{"message": "bad {KEY} {encoded}"}}}}', status=500, headers=echo),
            response(answer("fine"), headers=echo),
            response(f"<html>{KEY}</html>", headers=echo),
            response(answer("well"), headers=echo),
            response(f'{{"error": {{"message": "Incorrect API key provided: {KEY}"}}}}', status=401, headers=echo),
        ]
    )
    with RawServer(lambda _: next(replies)) as server, caplog.at_level(logging.DEBUG):
        model = endpoint(server.url, api_key_env="MY_KEY", max_concurrency=1)
        said = str(ask(model, ["a", "b", "c"], SAMPLING, store=store))
        with pytest.raises(UserError) as raised:
            ask(model, ["d"], SAMPLING, store=store)
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert len(server.requests) == 6
    files = b"".join(path.read_bytes() for path in store.path.parent.glob("calls.sqlite*"))
    said += f"{raised.value!r} {raised.value} {caplog.text} {model.describe()} {model.name} {model.revision}"
    assert "your key is ***" in said
    assert "bad ***" in files.decode("latin-1")
    for form in (KEY, encoded, encoded[9:-4], base64.b64encode(KEY.encode()).decode().rstrip("=")[:-1]):
        assert form.encode() not in files
        assert form not in said


def test_closing_early_ends_requests_and_thread_at_once() -> None:
    with RawServer(lambda request: response(answer()) if "1" in str(request.body) else None) as server:
        stream = endpoint(server.url, timeout=60).complete(Call(f"go {n}", SAMPLING) for n in (1, 2, 3, 4))
        assert isinstance(stream, Generator)
        assert next(stream)
        assert engine_threads()
        started = time.monotonic()
        stream.close()
        assert time.monotonic() - started < 3
    assert not engine_threads()


def test_an_error_in_the_callers_stream_ends_the_engine() -> None:
    def calls() -> Iterator[Call]:
        yield Call("go", SAMPLING)
        raise KeyError("the feed broke")

    with RawServer(lambda _: None) as server, pytest.raises(KeyError, match="the feed broke"):
        list(endpoint(server.url, timeout=60).complete(calls()))
    assert not engine_threads()


def test_calls_are_taken_as_there_is_room_and_not_before() -> None:
    """Never more than as many again as may be in flight: the caller's budget must see what was taken."""
    taken = landed = most = 0
    threads = set[str]()

    def calls() -> Iterator[Call]:
        nonlocal taken, most
        for number in range(200):
            threads.add(threading.current_thread().name)
            taken += 1
            most = max(most, taken - landed)
            yield Call(f"go {number}", SAMPLING)

    with RawServer(lambda _: response(answer())) as server:
        for batch in endpoint(server.url, max_concurrency=12).complete(calls()):
            landed += len(batch)
    assert landed == taken == 200
    assert threads == {threading.current_thread().name}
    assert most <= 2 * 12 + 1


def test_a_waiting_call_does_not_hold_up_others() -> None:
    """The first call is told to wait a second; at one request at a time the others pass meanwhile."""
    answered = list[str]()

    def respond(request: Request) -> bytes:
        prompt = request.body["messages"][0]["content"]
        if prompt == "go 0" and not answered:
            answered.append("refused")
            return response("{}", status=429, headers={"Retry-After": "1"})
        answered.append(prompt)
        return response(answer())

    with RawServer(respond) as server:
        found = outcomes(endpoint(server.url, max_concurrency=1), [f"go {n}" for n in range(5)])
    assert answered == ["refused", "go 1", "go 2", "go 3", "go 4", "go 0"]
    first = found[0]
    assert isinstance(first, Completion)
    assert [attempt.kind for attempt in first.attempts] == ["rate_limit"]


def test_work_is_shared_among_replicas_and_a_dead_one_costs_nothing(tiny: LocalModel, store: CallStore) -> None:
    prompts = [f"has {number}" for number in range(60)]
    with OpenAIServer(tiny) as first, OpenAIServer(tiny) as second:
        dead = "http://127.0.0.1:9/v1"
        model = endpoint(first.url, replicas=[second.url, dead], chat="auto", max_concurrency=4)
        assert ask(model, prompts, SAMPLING, store=store) == ask(tiny, prompts, SAMPLING, store=store)
        shares = (len(first.requests), len(second.requests))
        assert sum(shares) == 60
        assert min(shares) >= 12
        assert model.describe()[dead]["aside"]
        alone = endpoint(first.url, chat="auto")
        assert model.revision == alone.revision
        ask(alone, prompts, SAMPLING, store=store)
        assert len(first.requests) == shares[0]


def test_a_server_that_restarts_is_waited_for(tiny: LocalModel) -> None:
    prompts = [f"has {number}" for number in range(40)]
    server = OpenAIServer(tiny)
    port = int(server.url.rsplit(":", 1)[1].split("/")[0])
    with server:
        stream = endpoint(server.url, chat="auto", max_concurrency=2, retries=3).complete(
            Call(prompt, SAMPLING) for prompt in prompts
        )
        found = list(next(stream))
    again = OpenAIServer(tiny, port=port)
    timer = threading.Timer(0.7, again.__enter__)
    timer.start()
    found += [pair for batch in stream for pair in batch]
    again.__exit__()
    assert sorted(index for index, _ in found) == list(range(40))
    assert all(isinstance(outcome, Completion) for _, outcome in found)


def test_a_stated_revision_keeps_paid_calls_when_the_server_moves(tiny: LocalModel, store: CallStore) -> None:
    for _ in range(2):
        with OpenAIServer(tiny) as server:
            model = endpoint(server.url, chat="auto", revision="v3")
            ask(model, ["has 1", "has 2"], SAMPLING, store=store)
            requests = len(server.requests)
    assert model.revision == "m@v3"
    assert requests == 0


def test_half_a_surrogate_pair_goes_out_and_comes_back(store: CallStore, tmp_path: Path) -> None:
    with RawServer(lambda _: response(answer("\ud83d"))) as server:
        assert ask(endpoint(server.url), ["go \ud83d"], SAMPLING, store=store) == [["?"]]
