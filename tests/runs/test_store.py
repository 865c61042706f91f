"""The call store: what is put comes back, once and for all, from any process; failures never do."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.errors import UserError
from strop.runs import Ability, Budget, CallStore, FailedCall, Price, Spent, StoredCall, User, store
from strop.runs.calls import FailureCount
from strop.runs.workspace import open_calls


def call(key: str, text: str = "answer", *, sample: int = 0) -> StoredCall:
    return StoredCall(key, "model", "revision", {"prompt": f"p {key}"}, sample, text, "stop", 5, 7, 0.25, 100.0)


def failure(key: str) -> FailedCall:
    return FailedCall(key, "model", "revision", {"prompt": key}, 0, "timeout", "no reply in 60 s", True, 60.0, 100.0)


def make_run(folder: Path, identifier: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"id": identifier}))
    return folder


@pytest.fixture(name="calls")
def open_store(tmp_path: Path) -> CallStore:
    return CallStore(tmp_path / "calls.sqlite")


def test_what_is_put_comes_back(calls: CallStore) -> None:
    many = [call(f"k{number}") for number in range(1203)]
    assert calls.put_many(many) == {one.key: one for one in many}
    assert calls.get_many([one.key for one in many] + ["absent"]) == {one.key: one for one in many}
    assert calls.get_many([]) == {}


@settings(max_examples=40, deadline=None)
@given(text=st.text(), prompt=st.text())
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, text: str, prompt: str) -> None:
    with CallStore(tmp_path_factory.mktemp("store") / "calls.sqlite") as calls:
        stored = calls.put_many([replace(call("k", text), request={"prompt": prompt})])["k"]
        assert (stored.text, stored.request) == (text, {"prompt": prompt})


def test_half_a_surrogate_pair_does_not_cost_an_answer(calls: CallStore) -> None:
    assert calls.put_many([call("k", "half \ud83d")])["k"].text == "half ?"


def test_a_failure_is_recorded_and_is_no_answer(calls: CallStore) -> None:
    assert calls.put_many([failure("k"), failure("k")]) == {}
    assert calls.get_many(["k"]) == {}
    assert calls.failures(["k", "absent"]) == [failure("k"), failure("k")]
    calls.put_many([call("k")])
    assert calls.get_many(["k"]) == {"k": call("k")}


def test_the_first_answer_stands(calls: CallStore) -> None:
    calls.put_many([call("k", "first")])
    assert calls.put_many([call("k", "second"), call("l", "other")]) == {
        "k": call("k", "first"),
        "l": call("l", "other"),
    }


def test_a_batch_is_stored_whole_or_not_at_all(calls: CallStore) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        calls.put_many([call("k"), replace(call("l"), model=None)])  # type: ignore[arg-type]
    assert calls.get_many(["k", "l"]) == {}
    calls.put_many([call("k")])


def write_from(path: Path, writer: int) -> None:
    with CallStore(path) as calls:
        for number in range(40):
            view = calls.for_stage(User(f"run {writer}", "stage", "f"))
            view.put_many([call(f"shared {number}", f"writer {writer}"), call(f"own {writer} {number}")])


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_from, args=(path, number)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    with CallStore(path) as calls:
        assert calls.sizes().calls == 40 + 3 * 40
        assert [calls.used_by(User(f"run {number}", "stage", "f")) for number in range(3)] == [Spent(80, 960)] * 3
        paid = [calls.used_by(User(f"run {number}", "stage", "f"), paid=True).calls for number in range(3)]
        assert sum(paid) == 160, "each call is paid for by one run"


def test_uses_and_spending(calls: CallStore) -> None:
    price = Price(prompt=2_000_000.0, completion=1_000_000.0)
    money = price.cost(prompt_tokens=5, completion_tokens=7)
    one, two = User("r", "one", "f"), User("r", "two", "f")
    calls.for_stage(one).put_many([replace(call("a"), money=money), replace(call("b"), money=money)])
    calls.for_stage(two).get_many(["a"])
    assert calls.used_by(one) == Spent(2, 24)
    assert calls.used_by(two) == Spent(1, 12)
    assert calls.used_by(two, paid=True) == Spent(0, 0)
    assert [found.key for found in calls.calls_of(one, limit=1)] == ["a"]
    # 2 calls x (5 x 2 + 7 x 1)
    assert calls.spent("r") == Spent(2, 24, 34.0)
    calls.for_stage(one).put_many([call("c")])
    assert calls.spent("r") == Spent(3, 36, 34.0, unpriced=1)


def test_failed_attempts_are_counted_by_model_and_kind(calls: CallStore) -> None:
    view = calls.for_stage(User("r", "s", "f"))
    view.put_many([replace(failure("a"), final=False), failure("a"), replace(failure("b"), kind="server", latency_s=1)])
    calls.for_stage(User("other", "s", "f")).put_many([failure("c")])
    assert calls.failures_of("r") == [
        FailureCount("model", "timeout", 2, 1, 120.0),
        FailureCount("model", "server", 1, 1, 1.0),
    ]


def test_pruning_keeps_what_an_existing_run_refers_to(calls: CallStore, tmp_path: Path) -> None:
    here, gone = make_run(tmp_path / "here", "h"), make_run(tmp_path / "gone", "g")
    calls.register_run("h", here)
    calls.register_run("g", gone)
    calls.for_stage(User("h", "s", "f")).put_many([call("kept"), call("both")])
    calls.for_stage(User("g", "s", "f")).put_many([call("lost"), failure("lost too")])
    calls.for_stage(User("g", "s", "f")).get_many(["both"])
    calls.put_many([call("of no run")])
    assert (calls.sizes().unused, calls.sizes().runs) == (1, 2)
    (gone / "run.json").unlink()
    assert (calls.sizes().unused, calls.sizes().runs) == (2, 1)
    assert calls.prune() == 2
    assert sorted(calls.get_many(["kept", "both", "lost", "of no run"])) == ["both", "kept"]
    assert (calls.sizes().calls, calls.sizes().failures) == (2, 0)


def test_pruning_leaves_the_calls_of_commands_that_are_no_run(tmp_path: Path) -> None:
    with open_calls(tmp_path, "judge", "out.jsonl", budget=Budget(calls=2)) as calls:
        calls.put_many([call("a"), call("b")])
        assert not calls.ledger.room(flying=0, tokens=0, money=0)
    with open_calls(tmp_path, "judge", "out.jsonl", budget=Budget(calls=3)) as calls:
        assert calls.ledger.spent.calls == 2, "over all executions"
        assert calls.prune() == 0
        assert calls.sizes().unused == 0


def test_a_moved_run_keeps_its_calls(calls: CallStore, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "before", "h")
    calls.register_run("h", folder)
    calls.for_stage(User("h", "s", "f")).put_many([call("kept")])
    calls.register_run("h", folder.rename(tmp_path / "after"))
    assert calls.prune() == 0


def test_an_older_store_migrates_and_keeps_its_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "calls.sqlite"
    with CallStore(path) as calls:
        calls.put_many([call("k")])
    monkeypatch.setattr(store, "_MIGRATIONS", (*store._MIGRATIONS, "ALTER TABLE calls ADD COLUMN added INTEGER"))
    with CallStore(path) as calls:
        assert calls.get_many(["k"]) == {"k": call("k")}
        assert calls._connection.execute("SELECT added FROM calls").fetchall() == [(None,)]
    monkeypatch.undo()
    with pytest.raises(UserError, match="the call store has schema 3, this strop knows up to 2"):
        CallStore(path)


def test_a_store_of_the_first_schema_is_read_and_its_calls_have_no_price(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    with closing(sqlite3.connect(path)) as old:
        old.executescript(store._MIGRATIONS[0])
        old.execute("PRAGMA user_version = 1")
        old.execute(
            """INSERT INTO calls (key, model, revision, request, sample, text, finish, prompt_tokens,
               completion_tokens, latency_s, created)
               VALUES ('k', 'model', 'revision', '{"prompt": "p k"}', 0, 'answer', 'stop', 5, 7, 0.25, 100.0)"""
        )
        old.commit()
    with CallStore(path) as calls:
        assert calls.get_many(["k"]) == {"k": call("k")}
        assert call("k").spent == Spent(1, 12, 0.0, unpriced=1)


def test_what_a_server_can_do_is_kept(tmp_path: Path) -> None:
    with CallStore(tmp_path / "calls.sqlite") as calls:
        assert calls.abilities("http://here#m") == {}
        calls.record_ability("http://here#m", "n", Ability(False, "one choice came back"))
        calls.record_ability("http://here#m", "n", Ability(True, "3 choices came back"))
    with CallStore(tmp_path / "calls.sqlite") as calls:
        assert calls.abilities("http://here#m") == {"n": Ability(True, "3 choices came back")}


def test_a_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    path.write_text("hello " * 200)
    with pytest.raises(UserError, match="the call store cannot be used"):
        CallStore(path)
    assert path.read_text().startswith("hello")
