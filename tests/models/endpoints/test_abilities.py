"""What servers can do beside answering: asked once, recorded, used, and done without where they cannot."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raw_server import RawServer, Request, response
from strop.models.asking import ask, ask_each
from strop.models.endpoints.abilities import PROBE_PROMPT
from strop.models.endpoints.endpoint import EndpointModel
from strop.models.endpoints.jobs import shared
from strop.models.endpoints.replies import Choice, Usage
from strop.models.protocol import Sampling
from strop.models.spec import parse_model
from strop.runs.calls import StoredCall
from strop.runs.store import CallStore

SCHEMA = '{"type":"object","properties":{"score":{"type":"integer"}},"required":["score"]}'
DRAWN = Sampling(temperature=1.0, max_tokens=8)


class Server:
    """A server with chosen abilities; it answers with the seed and the number of the choice."""

    def __init__(self, *, n: str = "yes", schema: str = "yes", log_probs: bool = True) -> None:
        self.n, self.schema, self.log_probs = n, schema, log_probs
        self.lose_choice = False

    def __call__(self, request: Request) -> bytes:
        body = request.body
        if (body.get("n", 1) > 1 and self.n == "refused") or ("response_format" in body and self.schema == "refused"):
            return response('{"error": {"message": "unknown field"}}', status=400)
        count = body.get("n", 1) if self.n in ("yes", "copies") else 1
        choices = [self._choice(body, place) for place in range(count)]
        if self.lose_choice and count > 2:
            del choices[1]
        usage = {"prompt_tokens": 10, "completion_tokens": 7 * count}
        return response(json.dumps({"choices": choices, "usage": usage}))

    def _choice(self, body: dict[str, Any], place: int) -> dict[str, Any]:
        text = f"{body['messages'][0]['content']}/{body['seed'] % 1000}/{0 if self.n == 'copies' else place}"
        if "response_format" in body and self.schema == "yes":
            text = '{"calm": true, "score": 4}'
        token = {"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "a", "logprob": -0.5}]}
        told = {"content": [token]} if self.log_probs and body.get("logprobs") else None
        return {"index": place, "message": {"content": text}, "finish_reason": "stop", "logprobs": told}


def model_at(server: RawServer, **options: Any) -> EndpointModel:
    return EndpointModel(parse_model({"model": f"{server.url}#m", "chat": "on", "retries": 1, **options}))


def probes(server: RawServer) -> list[dict[str, Any]]:
    return [request.body for request in server.requests if request.body["messages"][0]["content"] == PROBE_PROMPT]


def asked(server: RawServer) -> list[dict[str, Any]]:
    return [request.body for request in server.requests if request.body["messages"][0]["content"] != PROBE_PROMPT]


def test_samples_share_a_request_and_its_tokens_where_the_server_can(store: CallStore) -> None:
    """3 prompts x 4 samples: one question, three requests; 10 tokens read and 28 written each, counted once."""
    with RawServer(Server()) as server:
        rows = list(ask_each(model_at(server), ["a", "b", "c"], DRAWN, samples=4, store=store))
    assert len(probes(server)) == 1
    assert [body["n"] for body in asked(server)] == [4, 4, 4]
    for prompt, row in zip("abc", rows, strict=True):
        answers = [answer for answer in row if isinstance(answer, StoredCall)]
        assert [answer.text.split("/")[0::2] for answer in answers] == [[prompt, str(place)] for place in range(4)]
        assert [answer.prompt_tokens for answer in answers] == [10, 0, 0, 0]
        assert sum(answer.completion_tokens for answer in answers) == 28


def test_what_was_found_out_is_kept_in_the_store(store: CallStore) -> None:
    with RawServer(Server()) as server:
        ask(model_at(server), ["a"], DRAWN, samples=2, store=store)
        revision = model_at(server).revision
        assert store.abilities(revision)["chat.n"].able
        ask(model_at(server), ["b"], DRAWN, samples=2, store=store)
    assert len(probes(server)) == 1


@pytest.mark.parametrize("n", ["ignored", "refused", "copies"])
def test_a_server_without_several_samples_is_asked_singly(n: str, store: CallStore) -> None:
    """One that ignores the wish, refuses it, or gives copies of one answer."""
    with RawServer(Server(n=n)) as server:
        model = model_at(server)
        answers = ask(model, ["a", "b"], DRAWN, samples=3, store=store)
    assert not model.abilities["chat.n"].able
    assert Counter(body.get("n", 1) for body in asked(server)) == {1: 6}
    assert len({text for row in answers for text in row}) == 6


def test_one_sample_asks_no_question(store: CallStore) -> None:
    with RawServer(Server()) as server:
        ask(model_at(server), ["a", "b"], DRAWN, store=store)
    assert probes(server) == []


def test_a_choice_that_is_missing_is_asked_for_alone(store: CallStore) -> None:
    behaviour = Server()
    behaviour.lose_choice = True
    with RawServer(behaviour) as server:
        ((*answers,),) = ask_each(model_at(server), ["a"], DRAWN, samples=4, store=store)
    assert [body.get("n", 1) for body in asked(server)] == [4, 1]
    assert all(isinstance(answer, StoredCall) for answer in answers)
    assert [failure.kind for failure in store.failures([answers[1].key])] == ["malformed"]
    # The server counts the lost choice too, and so it is paid for.
    assert sum(answer.completion_tokens for answer in answers if isinstance(answer, StoredCall)) == 28 + 7


@pytest.mark.parametrize(("schema", "able"), [("yes", True), ("ignored", False), ("refused", False)])
def test_a_schema_is_sent_where_it_is_kept_to(schema: str, able: bool, store: CallStore) -> None:
    with RawServer(Server(schema=schema)) as server:
        model = model_at(server)
        ask(model, ["a"], replace(DRAWN, json_schema=SCHEMA), store=store)
    assert model.abilities["chat.json_schema"].able is able
    (body,) = asked(server)
    assert ("response_format" in body) is able
    if able:
        assert body["response_format"]["json_schema"]["schema"] == json.loads(SCHEMA)


@pytest.mark.parametrize("able", [True, False])
def test_log_probs_where_the_server_tells_them(able: bool, store: CallStore) -> None:
    with RawServer(Server(log_probs=able)) as server:
        model = model_at(server)
        (((answer),),) = ask_each(model, ["a"], replace(DRAWN, top_logprobs=5), store=store)
    assert isinstance(answer, StoredCall)
    assert model.abilities["chat.top_logprobs=5"].able is able
    assert (answer.log_probs is not None) is able
    assert asked(server)[0].get("top_logprobs") == (5 if able else None)


def test_a_question_that_fails_for_another_reason_is_asked_again_in_the_next_run(store: CallStore) -> None:
    def broken(request: Request) -> bytes:
        return response("{}", status=500) if "n" in request.body else Server(n="ignored")(request)

    with RawServer(broken) as server:
        model = model_at(server, retries=0)
        ask(model, ["a"], DRAWN, samples=2, store=store)
        assert store.abilities(model.revision) == {}
        assert len(probes(server)) == 1


@given(st.integers(0, 10_000), st.lists(st.text(max_size=50), min_size=1, max_size=12))
def test_shared_tokens_add_up(written: int, texts: list[str]) -> None:
    parts = list(shared(Usage(17, written, 5), [Choice(text, "stop", None) for text in texts]))
    assert sum(part.completion for part in parts) == written
    assert [part.prompt for part in parts] == [17] + [0] * (len(texts) - 1)
    assert sum(part.cached for part in parts) == 5
    assert all(part.completion >= 0 for part in parts)
