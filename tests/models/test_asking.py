"""Store-first asking: nothing is asked twice, nothing is lost, and a continued run writes the same bytes."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from pathlib import Path

import pytest

from strop.errors import Stopped, UserError
from strop.models.asking import ask
from strop.models.local import LocalModel
from strop.models.protocol import Call, CallFailure, Completion, Outcome, Sampling, TextModel
from strop.models.scripted import ScriptedModel
from strop.runs.budget import FREE
from strop.runs.calls import StoredCall
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
    with pytest.raises(error, match=r"1 calls to tiny\d* failed \(1 server\)") as raised:
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
            store.put_many([_stored("first", next(iter(calls)))])
            yield [(0, Completion("second", 1, 1, "stop", 0.0))]

        def close(self) -> None: ...

    assert ask(Late(), ["go"], Sampling(), store=store) == [["first"]]


def _stored(text: str, call: Call) -> StoredCall:
    return StoredCall(call.key("1"), "late", "1", call.request(), 0, text, "stop", 1, 1, 0.0)
