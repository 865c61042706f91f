"""Episodes side by side: each sees its own answers, whoever answers, and a continued run is the unbroken one."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from strop.errors import Stopped, UserError
from strop.models.asking import Answered
from strop.models.endpoints.endpoint import EndpointModel
from strop.models.episodes import Ask, Episode, run_episodes
from strop.models.local import LocalModel
from strop.models.protocol import Call, CallFailure, Completion, Outcome, Sampling
from strop.models.spec import parse_model
from strop.records.rows import Message
from strop.runs.budget import FREE, Budget
from strop.runs.calls import StoredCall, User
from strop.runs.store import CallStore

sys.path.insert(0, str(Path(__file__).parent))
from fault_server import FaultServer
from openai_server import Fault, OpenAIServer

SAMPLING = Sampling(temperature=1.0, max_tokens=6, seed=1)


class Echo:
    """Answers with a hash of the prompt and the sample; counts batches and calls, and may die or fail on the way."""

    price = FREE

    def __init__(self, name: str = "echo", *, die_after: int | None = None, fail: str = "", kind: str = "") -> None:
        self.name = self.revision = name
        self._left, self._fail, self._kind = die_after, fail, kind
        self.batches: list[list[str]] = []
        self.asked: list[str] = []

    def complete(
        self, calls: Iterable[Call], *, done: Container[int] = frozenset()
    ) -> Iterator[list[tuple[int, Outcome]]]:
        batch = list(enumerate(calls))
        self.batches.append([str(call.prompt) for _, call in batch])
        for index, call in batch:
            if index in done:
                continue
            if self._left is not None:
                if not self._left:
                    raise KeyboardInterrupt
                self._left -= 1
            self.asked.append(str(call.prompt))
            yield [(index, self._answer(call))]

    def _answer(self, call: Call) -> Outcome:
        if self._fail and self._fail in str(call.prompt):
            return CallFailure(self._kind, "no", transient=self._kind == "server")
        digest = hashlib.sha256(f"{call.prompt} {call.sample}".encode()).hexdigest()
        return Completion(digest[:6], 1, 1, "stop", 0.0)

    def close(self) -> None: ...


def text(outcome: Answered) -> str:
    return outcome.text if isinstance(outcome, StoredCall) else f"<{outcome.kind}>"


def talk(name: str, turns: int, *, to: Sequence[str] = ("model",)) -> Episode[list[str]]:
    """Each turn tells the model all that was said before; two questions of the last turn are asked together."""
    said = [name]
    for turn in range(turns):
        (answer,) = yield [Ask(to[turn % len(to)], " ".join(said), SAMPLING)]
        said.append(text(answer))
    both = yield [Ask(to[0], f"{said} why?", SAMPLING, sample=sample) for sample in range(2)]
    return [*said, *map(text, both)]


def talks(count: int, **options: Any) -> list[Episode[list[str]]]:
    """Episodes of 1 to 3 turns."""
    return [talk(f"patient {number}", 1 + number % 3, **options) for number in range(count)]


def test_results_come_in_the_order_of_the_episodes_whatever_their_length(store: CallStore) -> None:
    results = run_episodes(talks(7), {"model": Echo()}, store=store, at_once=3)
    assert [result[0] for result in results] == [f"patient {number}" for number in range(7)]
    assert [len(result) for result in results] == [4, 5, 6, 4, 5, 6, 4]
    assert results[1][-1] != results[1][-2], "samples of one prompt differ"


def test_episodes_go_in_step_where_a_model_computes_here(store: CallStore) -> None:
    """Three seats: patients 0, 1, 2 ask together; the seat of patient 0 goes to patient 3 after its last question."""
    model = Echo()
    run_episodes(talks(4), {"model": model}, store=store, at_once=3)
    assert model.batches[0] == ["patient 0", "patient 1", "patient 2"]
    assert [len(batch) for batch in model.batches] == [3, 4, 4, 4]
    assert any(batch[-1] == "patient 3" or batch[0] == "patient 3" for batch in model.batches)


def test_side_by_side_is_one_after_the_other(store: CallStore, tmp_path: Path) -> None:
    with CallStore(tmp_path / "other.sqlite") as other:
        alone = run_episodes(talks(9), {"model": Echo()}, store=other, at_once=1)
    assert run_episodes(talks(9), {"model": Echo()}, store=store, at_once=64) == alone


@pytest.mark.parametrize("calls", range(0, 30, 3))
def test_a_run_killed_after_any_call_asks_only_what_is_missing(tmp_path: Path, calls: int) -> None:
    whole = Echo()
    with CallStore(tmp_path / "whole.sqlite") as store:
        expected = run_episodes(talks(7), {"model": whole}, store=store, at_once=3)
    with CallStore(tmp_path / "killed.sqlite") as store:
        first, second = Echo(die_after=calls), Echo()
        try:
            run_episodes(talks(7), {"model": first}, store=store, at_once=3)
        except KeyboardInterrupt:
            assert run_episodes(talks(7), {"model": second}, store=store, at_once=3) == expected
        assert sorted(first.asked + second.asked) == sorted(whole.asked)
        assert second.batches == [batch for batch in whole.batches if batch in second.batches], "the same batches"


def test_several_models_answer_one_episode_and_names_may_share_one(store: CallStore) -> None:
    patient, judge = Echo("patient"), Echo("judge")
    models = {"patient": patient, "therapist": patient, "judge": judge}
    run_episodes([talk("Ann", 3, to=("patient", "therapist", "judge"))], models, store=store)
    assert (len(patient.asked), len(judge.asked)) == (4, 1)


def test_a_call_that_can_have_no_answer_is_told_to_its_episode_alone(store: CallStore) -> None:
    results = run_episodes(talks(3), {"model": Echo(fail="patient 1", kind="context")}, store=store)
    assert results[1][1] == "<context>"
    assert "<context>" not in results[0] + results[2]


def test_a_failure_that_may_pass_stops_the_run_and_keeps_every_answer(store: CallStore) -> None:
    with pytest.raises(Stopped, match=r"1 of 3 calls to echo failed \(1 server\)"):
        run_episodes(talks(3), {"model": Echo(fail="patient 1", kind="server")}, store=store)
    again = Echo()
    assert len(run_episodes(talks(3), {"model": again}, store=store)) == 3
    assert "patient 0" not in again.asked


def test_an_episode_that_asks_nothing_ends_at_once(store: CallStore) -> None:
    def silent() -> Episode[str]:
        yield []
        return "done"

    ended: list[int] = []
    results = run_episodes([silent(), silent()], {"model": Echo()}, store=store, at_once=1, advance=ended.append)
    assert (results, sum(ended)) == (["done", "done"], 2)


def test_the_budget_ends_the_run_before_a_call_too_many(tmp_path: Path) -> None:
    with CallStore(tmp_path / "calls.sqlite") as whole:
        store = whole.for_stage(User("run", "stage", "print"), budget=Budget(calls=5))
        model = Echo()
        with pytest.raises(Stopped, match="calls 5 of 5"):
            run_episodes(talks(4), {"model": model}, store=store)
        assert len(model.asked) == 5


def test_a_defect_of_an_episode_is_raised(store: CallStore) -> None:
    def broken() -> Episode[str]:
        yield [Ask("model", "go", SAMPLING)]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_episodes([broken()], {"model": Echo()}, store=store)


# Behind a server every episode goes on as soon as its own answers are there.


def endpoint(url: str, **options: Any) -> EndpointModel:
    return EndpointModel(parse_model({"model": f"{url}#tiny", "retries": 3, "timeout": 20, **options}))


def chat(name: str, turns: int) -> Episode[list[str]]:
    """A conversation with a chat model; the episode's own lines are its answers said back."""
    lines = [Message("user", name)]
    for _ in range(turns):
        (answer,) = yield [Ask("model", tuple(lines), SAMPLING)]
        lines += [Message("assistant", text(answer)), Message("user", text(answer)[::-1])]
    return [line.content for line in lines]


def test_a_server_gives_what_the_model_gives_in_step(
    server: OpenAIServer, tiny: LocalModel, store: CallStore, tmp_path: Path
) -> None:
    def chats() -> list[Episode[list[str]]]:
        return [chat(f"go {n}", 1 + n % 3) for n in range(8)]

    with CallStore(tmp_path / "local.sqlite") as other:
        expected = run_episodes(chats(), {"model": tiny}, store=other)
    got = run_episodes(chats(), {"model": endpoint(server.url)}, store=store, at_once=4)
    assert len(got) == len(expected) == 8
    assert [len(lines) for lines in got] == [len(lines) for lines in expected]
    requests = len(server.requests)
    assert requests == store.sizes().calls
    assert run_episodes(chats(), {"model": endpoint(server.url)}, store=store) == got
    assert len(server.requests) == requests, "nothing is asked twice"


def test_a_continued_run_looks_answers_up_for_all_episodes_together(
    server: OpenAIServer, store: CallStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight chats of 3 turns: three look-ups of 8 keys, not 24 of one; each is a flush to the disk in a run's stage."""
    chats = [chat(f"go {n}", 3) for n in range(8)]
    first = run_episodes(chats, {"model": endpoint(server.url)}, store=store)
    looked_up: list[int] = []
    get_many = store.get_many

    def counted(keys: Sequence[str]) -> dict[str, StoredCall]:
        looked_up.append(len(keys))
        return get_many(keys)

    monkeypatch.setattr(store, "get_many", counted)
    again = [chat(f"go {n}", 3) for n in range(8)]
    assert run_episodes(again, {"model": endpoint(server.url)}, store=store) == first
    assert looked_up == [8, 8, 8]


def test_nobody_waits_for_an_episode_that_is_slow(server: OpenAIServer, store: CallStore) -> None:
    """The first answer is held back for a second; the other episodes end meanwhile, and it is asked last of all."""
    server.faults.append(Fault(status=503, delay_s=1.0))
    run_episodes(
        [chat("slow", 2), *(chat(f"go {n}", 2) for n in range(3))], {"model": endpoint(server.url)}, store=store
    )
    assert server.requests[-1]["messages"][0]["content"] == "slow"


def test_a_faulty_server_loses_nothing(store: CallStore) -> None:
    with FaultServer(faults=3) as faulty:
        model = endpoint(faulty.url, retries=8, timeout=2)
        results = run_episodes([chat(f"go {n}", 3) for n in range(20)], {"model": model}, store=store)
        stats = faulty.stats()
    assert all(len(result) == 7 for result in results)
    assert store.sizes().calls == 60
    assert store.sizes().failures == stats.requests - 60 > 0


def test_a_server_that_is_gone_stops_the_run_and_its_return_continues_it(tiny: LocalModel, store: CallStore) -> None:
    with OpenAIServer(tiny) as running:
        model = endpoint(running.url, retries=0)
        first = run_episodes([chat("go 0", 2)], {"model": model}, store=store)
    gone = endpoint(running.url, retries=0, retry_for=0.1)
    with pytest.raises(Stopped):
        run_episodes([chat("go 0", 2), chat("go 1", 1)], {"model": gone}, store=store)
    assert run_episodes([chat("go 0", 2)], {"model": gone}, store=store) == first


def test_a_server_that_refuses_the_key_is_a_users_error(server: OpenAIServer, store: CallStore) -> None:
    server.faults += [Fault(status=401, body='{"error": {"message": "bad key"}}')] * 8
    with pytest.raises(UserError, match="key"):
        run_episodes([chat("go", 1)], {"model": endpoint(server.url)}, store=store)


def test_the_budget_holds_behind_a_server(server: OpenAIServer, tmp_path: Path) -> None:
    with CallStore(tmp_path / "calls2.sqlite") as whole:
        store = whole.for_stage(User("run", "stage", "print"), budget=Budget(calls=5))
        with pytest.raises(Stopped, match="calls 5 of 5"):
            run_episodes([chat(f"go {n}", 3) for n in range(4)], {"model": endpoint(server.url)}, store=store)
        assert len(server.requests) == 5


def test_equal_questions_of_two_episodes_are_asked_once(server: OpenAIServer, store: CallStore) -> None:
    twins = run_episodes([chat("go", 2), chat("go", 2)], {"model": endpoint(server.url)}, store=store)
    assert twins[0] == twins[1]
    assert len(server.requests) == 2
