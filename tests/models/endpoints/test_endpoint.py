"""Endpoints against a real HTTP server: answers, bounded repeats, and every way in which a server can fail."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from openai_server import Fault, OpenAIServer
from strop.errors import Stopped, UserError
from strop.models.asking import ask
from strop.models.endpoints.endpoint import EndpointModel, request_seed
from strop.models.local import LocalModel
from strop.models.protocol import Call, CallFailure, Completion, Outcome, Sampling
from strop.models.scripted import ScriptedModel
from strop.models.spec import parse_model
from strop.records.rows import Message
from strop.runs.store import CallStore

SAMPLING = Sampling(temperature=0.0, max_tokens=6)
PROMPTS = [f"Question: has {i} apples?\nAnswer:" for i in range(10)]


def endpoint(server: OpenAIServer | str, **options: Any) -> EndpointModel:
    url = server if isinstance(server, str) else server.url
    return EndpointModel(parse_model({"model": f"{url}#tiny", "retries": 1, "timeout": 20, **options}))


def only(model: EndpointModel, prompt: str = "go") -> Outcome:
    ((pair,),) = model.complete([Call(prompt, SAMPLING)])
    return pair[1]


def failure(model: EndpointModel) -> CallFailure:
    outcome = only(model)
    assert isinstance(outcome, CallFailure)
    return outcome


def test_answers_are_those_of_the_model_behind_it(server: OpenAIServer, tiny: LocalModel, store: CallStore) -> None:
    model = endpoint(server)
    assert ask(model, PROMPTS, SAMPLING, store=store) == ask(tiny, PROMPTS, SAMPLING, store=store)
    requests = len(server.requests)
    ask(model, PROMPTS, SAMPLING, store=store)
    assert len(server.requests) == requests == 10


def test_messages_go_to_chat_completions_and_plain_prompts_where_chat_says(
    server: OpenAIServer, tiny: LocalModel, store: CallStore
) -> None:
    conversation = (Message("user", "has 1"),)
    local = ask(tiny, [conversation], SAMPLING, store=store)
    assert ask(endpoint(server), [conversation], SAMPLING, store=store) == local
    assert ask(endpoint(server, chat="on"), ["has 1"], SAMPLING, store=store) == local
    assert [list(body) for body in server.requests] == [list(server.requests[0])] * 2
    assert server.requests[1]["messages"] == [{"role": "user", "content": "has 1"}]


def test_a_request_carries_the_sampling_and_samples_have_seeds_of_their_own(server: OpenAIServer) -> None:
    sampling = Sampling(temperature=0.5, top_p=0.9, max_tokens=5, stop=(" go",), seed=3)
    calls = [Call("has 1", sampling, sample) for sample in range(3)]
    model = endpoint(server)
    outcomes = [pair for batch in model.complete(calls) for pair in batch]
    assert sorted(index for index, _ in outcomes) == [0, 1, 2]
    assert not model.abilities["completions.n"].able
    _, *requests = server.requests  # the first asks whether the server can make several samples at once
    body = requests[0]
    assert (body["model"], body["temperature"], body["top_p"], body["max_tokens"]) == ("tiny", 0.5, 0.9, 5)
    assert body["stop"] == [" go"]
    assert {request["seed"] for request in requests} == {request_seed(call) for call in calls}
    assert len({request_seed(call) for call in calls}) == 3


def test_token_counts_and_the_reason_of_the_end_are_the_servers(server: OpenAIServer) -> None:
    outcome = only(endpoint(server))
    assert isinstance(outcome, Completion)
    assert (outcome.prompt_tokens, outcome.completion_tokens, outcome.finish) == (1, 6, "length")


def test_no_more_requests_at_once_than_allowed(server: OpenAIServer, store: CallStore) -> None:
    server.hold_s = 0.05
    ask(endpoint(server, max_concurrency=3), PROMPTS, SAMPLING, store=store)
    assert 2 <= server.most_at_once <= 3


def test_too_many_requests_wait_as_long_as_the_server_says(server: OpenAIServer) -> None:
    server.faults = [Fault(429, headers={"Retry-After": "1"})]
    started = time.monotonic()
    assert isinstance(only(endpoint(server)), Completion)
    assert time.monotonic() - started >= 1.0
    assert len(server.requests) == 2


def test_a_server_error_that_passes_is_repeated(server: OpenAIServer) -> None:
    server.faults = [Fault(500), Fault(503)]
    assert isinstance(only(endpoint(server, retries=2)), Completion)


@pytest.mark.parametrize(
    ("fault", "kind", "transient", "attempts"),
    [
        (Fault(429, headers={"Retry-After": "0"}), "rate_limit", True, 4),  # "later" gets three times the patience
        (Fault(500), "server", True, 2),
        (Fault(400), "request", False, 1),
        (Fault(delay_s=0.6), "timeout", True, 2),
        (Fault(body="{not json"), "malformed", True, 2),
        (Fault(body="<html>welcome</html>", headers={"Content-Type": "text/html"}), "malformed", True, 2),
        (Fault(body="{}"), "malformed", True, 2),
        (Fault(body='{"choices": []}'), "malformed", True, 2),
        (Fault(body='{"choices": [{"text": null, "finish_reason": "stop"}]}'), "malformed", True, 2),
        (Fault(body='{"choices": [{"text": "a", "finish_reason": "tired"}]}'), "malformed", True, 2),
        (Fault(body='{"choices": [{"text": "", "finish_reason": "content_filter"}]}'), "content_filter", False, 1),
    ],
)
def test_a_failure_has_its_kind_and_a_bounded_number_of_attempts(
    server: OpenAIServer, fault: Fault, kind: str, transient: bool, attempts: int
) -> None:
    server.faults = [fault] * 5
    failed = failure(endpoint(server, timeout=0.3 if fault.delay_s else 20))
    assert (failed.kind, failed.transient) == (kind, transient)
    assert failed.message
    assert len(server.requests) == attempts


def test_one_failed_call_keeps_all_others_and_the_next_run_asks_only_it(server: OpenAIServer, store: CallStore) -> None:
    server.faults = [Fault(body="{not json")]
    model = endpoint(server, max_concurrency=1, retries=0)
    with pytest.raises(Stopped, match=r"1 of 10 calls to .* failed \(1 malformed\)"):
        ask(model, PROMPTS, SAMPLING, store=store)
    assert store.sizes().calls == 9
    ask(model, PROMPTS, SAMPLING, store=store)
    assert len(server.requests) == 11


def test_a_server_that_is_down_is_a_resumable_stop_that_names_it(store: CallStore) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
    with pytest.raises(Stopped, match="cannot be reached") as raised:
        ask(endpoint(url, max_concurrency=2), PROMPTS, SAMPLING, store=store)
    assert url in str(raised.value)
    assert "2 attempts" in str(raised.value)
    assert store.sizes().calls == 0
    # Those in flight were recorded; the other eight were not tried.
    assert store.sizes().failures <= 4


def test_a_server_that_goes_down_on_the_way_loses_nothing(tiny: LocalModel, store: CallStore) -> None:
    with OpenAIServer(tiny) as server:
        url = server.url
        ask(endpoint(url), PROMPTS[:4], SAMPLING, store=store)
    with pytest.raises(Stopped):
        ask(endpoint(url), PROMPTS, SAMPLING, store=store)
    assert store.sizes().calls == 4


def test_a_server_of_nothing_but_errors_stops_the_run(server: OpenAIServer, store: CallStore) -> None:
    server.faults = [Fault(500)] * 1000
    prompts = [f"go {number}" for number in range(100)]
    with pytest.raises(Stopped, match=r"2\d requests in a row failed"):
        ask(endpoint(server, retries=0, max_concurrency=4), prompts, SAMPLING, store=store)
    assert len(server.requests) < 30


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(401), "authentication"),
        (Fault(404), "not_found"),
        (Fault(body='{"choices": [{"text": "a", "finish_reason": "stop"}]}'), "no_usage"),
    ],
)
def test_what_every_request_would_meet_is_said_at_once(
    server: OpenAIServer, store: CallStore, fault: Fault, kind: str
) -> None:
    server.faults = [fault] * 100
    with pytest.raises(UserError, match=f"refuses every request .{kind}"):
        ask(endpoint(server, max_concurrency=2), PROMPTS, SAMPLING, store=store)
    assert len(server.requests) <= 4


def test_keys_are_sent_only_where_they_are_named_and_never_shown(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch, store: CallStore
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-public")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-mine")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-mine")
    monkeypatch.setenv("MY_KEY", "sk-secret")
    only(endpoint(server))
    sent = str(server.headers)
    assert not any(private in sent for private in ("sk-public", "org-mine", "proj-mine"))
    server.faults = [Fault(401, '{"error": {"message": "bad key sk-secret"}}')] * 9
    model = endpoint(server, api_key_env="MY_KEY")
    with pytest.raises(UserError) as raised:
        ask(model, ["go"], SAMPLING, store=store)
    assert server.headers[-1]["authorization"] == "Bearer sk-secret"
    assert "bad key ***" in str(raised.value)
    stored = store.failures([Call("go", SAMPLING).key(model.revision)])
    assert "sk-secret" not in repr(stored) + model.revision + model.name


def test_a_script_behind_a_server(tmp_path: Path, store: CallStore) -> None:
    path = tmp_path / "replies.yaml"
    path.write_text('rules: [{pattern: apples, reply: "many\\n#### 7"}]')
    with OpenAIServer(ScriptedModel(path)) as server:
        answers = ask(endpoint(server), PROMPTS[:2], Sampling(stop=("\n",)), store=store)
    assert answers == [["many"], ["many"]]
