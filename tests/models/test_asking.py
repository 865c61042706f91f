"""Store-first asking: nothing is asked twice, nothing is lost, and a continued run writes the same bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from strop.errors import Stopped, UserError
from strop.models.asking import ask, ask_each
from strop.models.local import LocalModel
from strop.models.protocol import Call, CallFailure, Completion, Outcome, Sampling, TextModel
from strop.models.scripted import ScriptedModel
from strop.runs.budget import FREE, Budget, Price
from strop.runs.calls import StoredCall, User
from strop.runs.store import CallStore

PROMPTS = [f"Question: has {i} apples?\nAnswer:" for i in range(12)]
SAMPLING = Sampling(temperature=1.0, max_tokens=10, seed=1)


class Killed(BaseException):
    """Stands for the end of the process."""


class Counted:
    """A model that counts what is really asked of it, and may die or fail on the way."""

    def __init__(self, model: TextModel, *, die_before: int | None = None, fail: CallFailure | None = None) -> None:
        self.model, self.die_before, self.fail = model, die_before, fail
        self.asked: list[int] = []
        self.name, self.revision, self.price = model.name, model.revision, model.price

    def complete(
        self, calls: Iterable[Call], *, done: Container[int] = frozenset()
    ) -> Iterator[list[tuple[int, Outcome]]]:
        for number, batch in enumerate(self.model.complete(calls, done=done)):
            if number == self.die_before:
                raise Killed
            self.asked += [index for index, _ in batch]
            if self.fail is not None and number == 1:
                yield [(batch[0][0], self.fail), *batch[1:]]
            else:
                yield batch

    def close(self) -> None:
        self.model.close()


@pytest.fixture(scope="module")
def small_batches(tiny_folder: Path) -> LocalModel:
    return LocalModel(tiny_folder, device="cpu", batch_size=7)


def test_a_killed_and_continued_run_is_byte_identical_and_asks_nothing_twice(
    small_batches: LocalModel, tmp_path: Path
) -> None:
    """36 calls in batches of 7: killed before the third batch, 14 are stored; the rest asks exactly 22."""
    with CallStore(tmp_path / "unbroken.sqlite") as store:
        unbroken = ask(small_batches, PROMPTS, SAMPLING, samples=3, store=store)
    with CallStore(tmp_path / "broken.sqlite") as store:
        with pytest.raises(Killed):
            ask(Counted(small_batches, die_before=2), PROMPTS, SAMPLING, samples=3, store=store)
        rest = Counted(small_batches)
        progress: list[int] = []
        assert ask(rest, PROMPTS, SAMPLING, samples=3, store=store, advance=progress.append) == unbroken
        assert len(rest.asked) == len(set(rest.asked)) == 22
        assert (progress[0], sum(progress)) == (14, 36)
        again = Counted(small_batches)
        assert ask(again, PROMPTS, SAMPLING, samples=3, store=store) == unbroken
        assert again.asked == []


def test_a_longer_list_asks_only_what_is_new(small_batches: LocalModel, store: CallStore) -> None:
    first = ask(small_batches, PROMPTS[:4], SAMPLING, samples=2, store=store)
    more = ask(small_batches, PROMPTS[:6], SAMPLING, samples=3, store=store)
    assert [texts[:2] for texts in more[:4]] == first


def test_repeated_prompts_share_answers_and_samples_do_not(tiny: LocalModel, store: CallStore) -> None:
    progress: list[int] = []
    counted = Counted(tiny)
    answers = ask(counted, ["go", "stop", "go"], SAMPLING, samples=4, store=store, advance=progress.append)
    assert answers[0] == answers[2] != answers[1]
    assert len(set(answers[0])) == 4
    assert len(counted.asked) == 8
    assert sum(progress) == 12


@pytest.mark.parametrize(("transient", "error"), [(True, Stopped), (False, UserError)])
def test_a_failure_is_recorded_and_named_and_everything_else_is_kept(
    small_batches: LocalModel, store: CallStore, transient: bool, error: type[Exception]
) -> None:
    failing = Counted(small_batches, fail=CallFailure("server", "500 Internal Server Error", transient))
    with pytest.raises(error, match=r"1 of 12 calls to tiny\d* failed \(1 server\)") as raised:
        ask(failing, PROMPTS, SAMPLING, store=store)
    assert "500 Internal Server Error" in str(raised.value)
    assert store.sizes().calls == 11
    assert store.sizes().failures == 1
    rest = Counted(small_batches)
    assert len(ask(rest, PROMPTS, SAMPLING, store=store)) == 12


def test_a_failure_never_becomes_an_answer(tmp_path: Path, store: CallStore) -> None:
    script = tmp_path / "replies.yaml"
    script.write_text("rules: [{prompt: known, reply: yes it is}]")
    with pytest.raises(UserError, match="no_reply"):
        ask(ScriptedModel(script), ["known", "unknown"], Sampling(), store=store)
    assert store.sizes().calls == 1


def test_text_is_what_the_store_holds(store: CallStore) -> None:
    """Where another process answered first, its answer stands."""

    class Late:
        name, revision, price = "late", "1", FREE

        def complete(
            self, calls: Iterable[Call], *, done: Container[int] = frozenset()
        ) -> Iterator[list[tuple[int, Outcome]]]:
            for index, call in enumerate(calls):
                store.put_many([_stored("first", call)])
                yield [(index, Completion("second", 1, 1, "stop", 0.0))]

        def close(self) -> None: ...

    assert ask(Late(), ["go"], Sampling(), store=store) == [["first"]]


def _stored(text: str, call: Call) -> StoredCall:
    return StoredCall(call.key("1"), "late", "1", call.request(), 0, text, "stop", 1, 1, 0.0)


def test_a_key_is_that_of_every_store_before() -> None:
    """Wishes that are not made are no part of it: the calls of older workspaces stay paid for."""
    content = {
        "schema": 1,
        "revision": "r",
        "prompt": "go",
        "sampling": {"temperature": 0.5, "top_p": 1.0, "max_tokens": 2, "stop": ["x"], "seed": 3},
        "sample": 1,
    }
    expected = hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
    sampling = Sampling(0.5, max_tokens=2, stop=("x",), seed=3)
    assert Call("go", sampling, 1).key("r") == expected
    assert Call("go", replace(sampling, top_logprobs=5), 1).key("r") != expected


@pytest.fixture
def echo(tmp_path: Path) -> ScriptedModel:
    """Answers `yes it is` (3 tokens) to everything but a prompt that holds `silent`."""
    script = tmp_path / "echo.yaml"
    script.write_text("rules: [{pattern: '^((?!silent).)*$', reply: yes it is}]")
    return ScriptedModel(script)


def test_what_asking_again_does_not_help_is_a_value(echo: ScriptedModel, store: CallStore) -> None:
    rows = list(ask_each(echo, ["one", "silent", "two"], Sampling(), samples=2, store=store))
    assert [[type(outcome).__name__ for outcome in row] for row in rows] == [
        ["StoredCall"] * 2,
        ["FailedCall"] * 2,
        ["StoredCall"] * 2,
    ]
    with pytest.raises(UserError, match=r"2 of 6 calls to scripted:echo\.yaml failed"):
        ask(echo, ["one", "silent", "two"], Sampling(), samples=2, store=store)


@pytest.mark.parametrize(
    ("budget", "paid", "named"),
    [
        (Budget(calls=5), 5, "calls 5 of 5"),
        # An answer takes one token for the prompt and three of its own; the first is guessed at 0 + 512.
        (Budget(tokens=530), 132, "tokens 528 of 530"),
    ],
)
def test_a_budget_is_never_passed_and_what_it_bought_is_kept(
    echo: ScriptedModel, store: CallStore, budget: Budget, paid: int, named: str
) -> None:
    prompts = [f"p{number}" for number in range(200)]
    limited = store.for_stage(User("run", "stage", "f"), budget=budget)
    with pytest.raises(Stopped, match=named):
        list(ask_each(echo, prompts, Sampling(), store=limited))
    assert store.sizes().calls == paid
    counted = Counted(echo)
    assert len(ask(counted, prompts, Sampling(), store=store.for_stage(User("run", "stage", "f")))) == 200
    assert len(counted.asked) == 200 - paid


def test_a_budget_that_is_just_enough_stops_nothing(echo: ScriptedModel, store: CallStore) -> None:
    limited = store.for_stage(User("run", "stage", "f"), budget=Budget(calls=3))
    assert ask(echo, ["a", "b", "c"], Sampling(), store=limited) == [["yes it is"]] * 3
    assert ask(echo, ["a", "b", "c"], Sampling(), store=limited) == [["yes it is"]] * 3


def test_money_is_counted_and_an_unknown_price_is_refused_before_the_first_call(
    echo: ScriptedModel, store: CallStore
) -> None:
    """At 1 a prompt token and 2 an answer's token a call costs 1 + 3 x 2 = 7: 30 buys four."""
    priced = Counted(echo)
    priced.price = Price(1_000_000, 2_000_000)
    limited = store.for_stage(User("run", "stage", "f"), budget=Budget(money=2_000))
    with pytest.raises(Stopped, match="money 1,995 of 2,000"):
        ask(priced, [f"p{number}" for number in range(300)], Sampling(), store=limited)
    assert store.spent("run").money == 285 * 7
    unknown = Counted(echo)
    unknown.price = None
    with pytest.raises(UserError, match=r"the price of scripted:echo\.yaml is not known"):
        ask(unknown, ["new"], Sampling(), store=limited)
    assert unknown.asked == []


def test_equal_calls_far_apart_are_asked_once(echo: ScriptedModel, store: CallStore) -> None:
    prompts = [f"p{number % 9000}" for number in range(20_000)]
    counted, progress = Counted(echo), list[int]()
    answers = ask_each(counted, prompts, Sampling(), store=store, advance=progress.append)
    assert sum(1 for row in answers if isinstance(row[0], StoredCall)) == 20_000
    assert len(counted.asked) == 9_000
    assert sum(progress) == 20_000
