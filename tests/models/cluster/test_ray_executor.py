"""A local Ray cluster with two workers: the same artifacts as without it, whatever dies on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from openai_server import OpenAIServer
from strop.errors import Stopped, UserError
from strop.models.asking import ask, ask_each
from strop.models.cluster import ray_executor
from strop.models.cluster.ray_cluster import CLUSTER, Cluster, import_ray
from strop.models.local import LocalModel
from strop.models.placement import Placement, open_placed
from strop.models.protocol import Call, Sampling, TextModel
from strop.models.spec import ModelSpec, parse_model
from strop.runs.calls import StoredCall
from strop.runs.store import CallStore

pytestmark = pytest.mark.slow

WORKERS = Placement(executor="ray", replicas=2, device="cpu", cpus_per_replica=0.5)
PROMPTS = [f"Question: Ann has {number} apples and {number % 7} books{' and' * (number % 5)}" for number in range(200)]
SAMPLING = Sampling(temperature=1.0, max_tokens=24, seed=3)
SAMPLES = 3


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One cluster for all tests of this file: the models that they open share it."""
    pytest.importorskip("ray", reason="Ray comes with the extra 'scale'")
    CLUSTER.join("local")
    yield
    CLUSTER.leave()


@pytest.fixture
def spec(tiny_folder: Path) -> ModelSpec:
    return parse_model({"model": str(tiny_folder), "batch_size": 8})


@pytest.fixture(scope="module")
def unbroken(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[object, ...]]:
    """What the store holds after a run without Ray."""
    model = LocalModel(tiny_folder, device="cpu", batch_size=8)
    with CallStore(tmp_path_factory.mktemp("unbroken") / "calls.sqlite") as store:
        ask(model, PROMPTS, SAMPLING, samples=SAMPLES, store=store)
        return stored(store, model)


def stored(store: CallStore, model: TextModel) -> dict[str, tuple[object, ...]]:
    """Everything that the store holds of the calls, but the time."""
    keys = [Call(prompt, SAMPLING, sample).key(model.revision) for prompt in PROMPTS for sample in range(SAMPLES)]
    return {key: told(call) for key, call in store.read_many(keys).items()}


def told(call: StoredCall) -> tuple[object, ...]:
    return call.model, call.revision, call.text, call.finish, call.prompt_tokens, call.completion_tokens, call.money


def worker_pids() -> list[int]:
    """The workers of this process's cluster that hold a model."""
    listed = subprocess.run(["ps", "-ax", "-o", "pid=,ppid=,command="], capture_output=True, text=True, check=True)
    processes = {int(pid): (int(parent), command) for pid, parent, command in map(_split, listed.stdout.splitlines())}

    def is_ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in processes and is_ours(processes[pid][0]))

    return [pid for pid, (_, command) in processes.items() if command.startswith("ray::MapWorker") and is_ours(pid)]


def _split(line: str) -> tuple[str, str, str]:
    pid, parent, command = line.split(None, 2)
    return pid, parent, command


def wait_until_no_worker_is_left(seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while worker_pids():
        assert time.monotonic() < deadline, "workers go on without the run"
        time.sleep(0.2)


def test_two_workers_store_what_this_process_would(
    spec: ModelSpec, store: CallStore, unbroken: dict[str, tuple[object, ...]]
) -> None:
    model = open_placed(spec, WORKERS)
    seen: set[int] = set()
    try:
        told_of = 0

        def advance(count: int) -> None:
            nonlocal told_of
            told_of += count
            seen.update(worker_pids())

        rows = ask(model, PROMPTS, SAMPLING, samples=SAMPLES, store=store, advance=advance)
        assert told_of == len(PROMPTS) * SAMPLES
        assert len(seen) == 2
        assert stored(store, model) == unbroken
        assert len({text for row in rows for text in row}) > 300
        # All is answered: no worker is needed.
        started = time.monotonic()
        assert ask(model, PROMPTS, SAMPLING, samples=SAMPLES, store=store) == rows
        assert time.monotonic() - started < 2
    finally:
        model.close()
    wait_until_no_worker_is_left()


def test_a_killed_worker_changes_nothing(
    spec: ModelSpec, store: CallStore, unbroken: dict[str, tuple[object, ...]]
) -> None:
    model = open_placed(spec, WORKERS)
    killed: list[int] = []

    def kill_one(_: int) -> None:
        if not killed:
            killed.append(worker_pids()[0])
            os.kill(killed[0], signal.SIGKILL)

    try:
        ask(model, PROMPTS, SAMPLING, samples=SAMPLES, store=store, advance=kill_one)
        assert killed
        assert stored(store, model) == unbroken
    finally:
        model.close()


def test_workers_that_die_again_and_again_stop_the_run(
    spec: ModelSpec, store: CallStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_executor, "RESTARTS", 1)
    over = threading.Event()

    def kill_all() -> None:
        while not over.wait(0.1):
            for pid in worker_pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_all)
    killer.start()
    model = open_placed(spec, WORKERS)
    try:
        with pytest.raises(Stopped, match="Ray could not keep the workers alive"):
            ask(model, PROMPTS, SAMPLING, store=store)
    finally:
        over.set()
        killer.join()
        model.close()


class DriverStoppedError(Exception):
    """What ends the process that stores."""


def test_a_run_that_is_stopped_goes_on_with_what_is_missing(
    spec: ModelSpec, store: CallStore, unbroken: dict[str, tuple[object, ...]]
) -> None:
    came = 0

    def stop_after_some(count: int) -> None:
        nonlocal came
        came += count
        if came >= 40:
            raise DriverStoppedError

    model = open_placed(spec, WORKERS)
    with pytest.raises(DriverStoppedError):
        ask(model, PROMPTS, SAMPLING, samples=SAMPLES, store=store, advance=stop_after_some)
    model.close()
    wait_until_no_worker_is_left()
    first = stored(store, model)
    assert 40 <= len(first) < len(unbroken)
    asked: list[int] = []
    again = open_placed(spec, WORKERS)
    try:
        ask(again, PROMPTS, SAMPLING, samples=SAMPLES, store=store, advance=asked.append)
        assert stored(store, again) == unbroken
    finally:
        again.close()
    assert sum(asked) == len(unbroken)


def test_clients_on_workers_answer_as_one_here(server: OpenAIServer, tmp_path: Path) -> None:
    """Two clients of four requests at a time."""
    spec = parse_model({"model": f"{server.url}#tiny", "max_concurrency": 4})
    answers = []
    for placement in (Placement(), WORKERS):
        model = open_placed(spec, placement)
        with CallStore(tmp_path / f"{placement.executor}.sqlite") as store:
            rows = ask_each(model, PROMPTS[:40], SAMPLING, samples=2, store=store)
            answers.append([[told(call) for call in row if isinstance(call, StoredCall)] for row in rows])
        model.close()
    assert answers[0] == answers[1]
    assert [len(row) for row in answers[0]] == [2] * 40


def test_a_server_that_is_down_stops_the_run_as_it_does_here(store: CallStore) -> None:
    spec = parse_model({"model": "http://127.0.0.1:9/v1#gone", "retries": 0, "max_concurrency": 2})
    messages = []
    for placement in (Placement(), WORKERS):
        model = open_placed(spec, placement)
        with pytest.raises(Stopped) as stopped:
            ask(model, PROMPTS[:8], SAMPLING, store=store)
        model.close()
        messages.append(stopped.value.what)
    assert messages[0] == messages[1]


def test_one_process_uses_one_cluster() -> None:
    with pytest.raises(UserError, match="connected to another Ray cluster"):
        CLUSTER.join("ray://elsewhere:10001")
    assert Cluster().own is False


OWN_CLUSTER = """
import os, sys
from pathlib import Path
from strop.errors import UserError
from strop.models.asking import ask
from strop.models.placement import Placement, open_placed
from strop.models.protocol import Sampling
from strop.models.spec import parse_model
from strop.runs.store import CallStore

spec = parse_model("scripted:" + sys.argv[1])
with CallStore(Path(sys.argv[2])) as store:
    model = open_placed(spec, Placement(executor="ray", cpus_per_replica=0.5, ray_address=sys.argv[3]))
    print(ask(model, ["a", "b"], Sampling(), store=store), model.name)
    model.close()
    import ray
    print(ray.is_initialized())
    if sys.argv[3] == "local":
        model = open_placed(spec, Placement(executor="ray", replicas=4096))
        try:
            ask(model, ["c"], Sampling(), store=store)
        except UserError as error:
            print(error.what)
        model.close()
"""


@pytest.mark.parametrize("address", ["local", "auto"])
def test_a_cluster_of_its_own_and_one_that_runs_already(tmp_path: Path, address: str) -> None:
    """A fresh process starts and ends its own, or joins and leaves that of this process; both are quiet."""
    script = tmp_path / "replies.yaml"
    script.write_text("default: 'yes'")
    arguments = [sys.executable, "-c", OWN_CLUSTER, str(script), str(tmp_path / "calls.sqlite"), address]
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0] == "[['yes'], ['yes']] scripted:replies.yaml"
    assert lines[1] == "False"
    assert import_ray().cluster_resources()["CPU"] > 0
    assert lines[2:] == (["the replicas do not fit on this machine"] if address == "local" else [])
    noise = [line for line in ended.stderr.splitlines() if "RAY_BACKEND_LOG_LEVEL" not in line]
    assert noise == []


def test_a_script_is_answered_by_workers(tmp_path: Path, store: CallStore) -> None:
    (tmp_path / "replies.yaml").write_text("rules: [{pattern: 'has 1', replies: [one, two]}]")
    spec = parse_model(f"scripted:{tmp_path / 'replies.yaml'}")
    outcomes = []
    for placement in (Placement(), WORKERS):
        model = open_placed(spec, placement)
        with CallStore(tmp_path / f"{placement.executor}.sqlite") as own:
            rows = list(ask_each(model, PROMPTS[:12], SAMPLING, samples=2, store=own))
        model.close()
        outcomes.append([[call.text if isinstance(call, StoredCall) else call.kind for call in row] for row in rows])
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] == ["no_reply", "no_reply"]
    assert outcomes[0][1] == ["one", "two"]
