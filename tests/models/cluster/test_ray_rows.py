"""Batches and answers as rows: what a worker does with them, and what an engine of vLLM is handed and gives back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from strop.errors import Stopped, UserError
from strop.models.batching import Batch
from strop.models.cluster.fronts import open_front, settled
from strop.models.cluster.ray_executor import Replica, grouped
from strop.models.cluster.ray_rows import Answer, answer_of, answer_row, batch_rows, calls_of
from strop.models.cluster.ray_vllm import engine_answer, engine_row
from strop.models.endpoints.endpoint import EndpointModel
from strop.models.endpoints.wire import request_seed
from strop.models.local import LocalModel
from strop.models.protocol import Call, Completion, Outcome, Sampling
from strop.models.spec import parse_model
from strop.records.rows import Message
from strop.runs.calls import Ability


def told(outcome: Outcome) -> tuple[object, ...]:
    """Everything but the time."""
    if isinstance(outcome, Completion):
        return outcome.text, outcome.prompt_tokens, outcome.completion_tokens, outcome.finish, outcome.log_probs
    return outcome.kind, outcome.message, outcome.transient


def test_a_worker_computes_what_the_process_that_cut_would_have(tiny_folder: Path) -> None:
    """Twelve prompts of many lengths, three samples each, at temperature 1, with one beyond the context."""
    spec = settled(parse_model({"model": str(tiny_folder), "batch_size": 5}), device="cpu", dtype="auto")
    prompts = ["go" + " ti me" * (number * 5 % 17) for number in range(11)] + ["go" * 1 + " go" * 200]
    calls = [Call(prompt, Sampling(1.0, max_tokens=8), sample) for prompt in prompts for sample in range(3)]
    front = open_front(spec)
    batches = list(front.batches(calls, done=frozenset()))
    replica = Replica(spec, front.revision, {})
    remote: dict[int, Outcome] = {}
    for row in reversed(batch_rows(enumerate(batches))):
        answered = replica(row)
        answer = answer_of(answered)
        assert answer.stop is None
        remote.update({batches[answered["batch"]].places[index]: outcome for index, outcome in answer.outcomes})
    here = {
        place: outcome for batch in LocalModel(tiny_folder, batch_size=5).complete(calls) for place, outcome in batch
    }
    assert {place: told(outcome) for place, outcome in remote.items()} == {
        place: told(outcome) for place, outcome in here.items()
    }
    assert told(remote[33])[0] == "context"


def test_a_worker_with_other_files_says_so(tiny_folder: Path) -> None:
    spec = settled(parse_model(str(tiny_folder)), device="cpu", dtype="auto")
    (row,) = batch_rows([(4, Batch([7], [Call("go", Sampling())]))])
    answered = Replica(spec, "another", {})(row)
    assert answered["batch"] == 4
    answer = answer_of(answered)
    assert answer.outcomes == []
    assert isinstance(answer.stop, UserError)
    assert "a worker holds another model under this name" in str(answer.stop)


def test_a_worker_without_the_key_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A_KEY", raising=False)
    spec = parse_model({"model": "http://127.0.0.1:9/v1#name", "api_key_env": "A_KEY"})
    (row,) = batch_rows([(0, Batch([0], [Call("go", Sampling())]))])
    stop = answer_of(Replica(spec, EndpointModel(spec).revision, {})(row)).stop
    assert isinstance(stop, UserError)
    assert "export A_KEY" in str(stop)


def test_an_answer_keeps_its_errors_and_what_was_found_out() -> None:
    stop = Stopped("the server is gone", value="http://h", why="no route", fix="start it")
    ability = Ability(True, "it answered")
    row = answer_row(3, Answer([(1, Completion("\ud800 x", 1, 2, "stop", 0.1))], stop, {"n": ability}))
    answer = answer_of(row)
    assert row["batch"] == 3
    assert isinstance(answer.stop, Stopped)
    assert (str(answer.stop), answer.stop.exit_code, answer.stop.fix) == (str(stop), 3, "start it")
    assert answer.outcomes == [(1, Completion("\ud800 x", 1, 2, "stop", 0.1))]
    assert answer.abilities == {"n": ability}


def test_groups_of_batches_are_just_large_enough() -> None:
    call = Call("go", Sampling())
    batches = [Batch(list(range(size)), [call] * size) for size in (3, 1, 4, 2)]
    assert [[len(batch.calls) for batch in group] for group in grouped(iter(batches), 4)] == [[3, 1], [4], [2]]
    assert list(grouped(iter([]), 4)) == []


@pytest.mark.parametrize(
    ("prompt", "chat", "handed"),
    [
        ("2 + 2?", "auto", {"prompt": "2 + 2?"}),
        ("2 + 2?", "on", {"messages": [{"role": "user", "content": "2 + 2?"}]}),
        ((Message("system", "Count."), Message("user", "2 + 2?")), "auto", {
            "messages": [{"role": "system", "content": "Count."}, {"role": "user", "content": "2 + 2?"}]
        }),
    ],
)  # fmt: skip
def test_an_engine_is_handed_the_prompt_and_how_to_sample(prompt: Any, chat: Any, handed: dict[str, Any]) -> None:
    call = Call(prompt, Sampling(0.7, 0.9, max_tokens=5, stop=("END",), seed=3), 2)
    (row,) = batch_rows([(6, Batch([0], [call]))])
    given = engine_row(row, chat=chat)
    options = given.pop("sampling_params")
    assert options == {"temperature": 0.7, "top_p": 0.9, "max_tokens": 5, "seed": request_seed(call), "stop": ["END"]}
    assert (given.pop("batch"), calls_of(given)) == (6, [call])
    del given["calls"]
    assert given == handed


@pytest.mark.parametrize(("written", "finish"), [(4, "stop"), (5, "length")])
def test_an_engine_gives_a_completion_back(written: int, finish: str) -> None:
    (row,) = batch_rows([(6, Batch([0], [Call("2 + 2?", Sampling(max_tokens=5))]))])
    engine = {"generated_text": " 4", "num_input_tokens": 3, "num_generated_tokens": written, "time_taken_llm": 0.5}
    answered = engine_answer({**row, **engine}, chat="auto")
    assert answered["batch"] == 6
    ((index, completion),) = answer_of(answered).outcomes
    assert index == 0
    assert isinstance(completion, Completion)
    assert (completion.text, completion.prompt_tokens, completion.completion_tokens) == ("4", 3, written)
    assert (completion.finish, completion.latency_s) == (finish, 0.5)
