"""Servers that strop starts: they come up, answer, end with strop however that ends, and say why they did not come up.

The server is a real OpenAI-compatible one of ours, in place of `vllm serve`; the processes are real.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from strop.errors import Stopped, UserError
from strop.models.asking import ask
from strop.models.endpoints import vllm
from strop.models.endpoints.vllm import VllmModel
from strop.models.opening import open_model
from strop.models.protocol import Sampling
from strop.models.spec import ModelSpec, parse_model
from strop.runs.store import CallStore

SERVER = Path(__file__).parents[1] / "openai_server.py"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
# Starts a worker that does not listen to SIGTERM, writes its process id down, and then becomes the server.
WITH_WORKER = f"""
import os, subprocess, sys
worker = subprocess.Popen([sys.executable, "-c", {STUBBORN!r}])
print(worker.pid, file=open(sys.argv[1], "w"), flush=True)
os.execv(sys.executable, [sys.executable, {str(SERVER)!r}, *sys.argv[2:]])
"""
CLIENT = """
import sys, time
from strop.models.opening import open_model
from strop.models.spec import parse_model
model = open_model(parse_model({"model": sys.argv[1], "vllm_command": sys.argv[2:], "startup_timeout": 60}))
print(model._process.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A script of replies that the stand-in serves."""
    path = tmp_path / "replies.yaml"
    path.write_text("default: hello")
    return path


def _spec(script: Path, *command: str, timeout: float = 60) -> ModelSpec:
    words = [*command] or [sys.executable, str(SERVER)]
    return parse_model({"model": f"vllm:scripted:{script}", "vllm_command": words, "startup_timeout": timeout})


def _ended(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def _await(condition: Callable[[], bool], *, within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def _group(model: VllmModel) -> int:
    assert model._process is not None
    return model._process.pid


def test_a_server_is_started_asked_and_stopped(script: Path, store: CallStore) -> None:
    model = open_model(_spec(script))
    assert isinstance(model, VllmModel)
    group = _group(model)
    log = Path(model._log.name)
    try:
        assert ask(model, ["a", "b"], Sampling(), store=store) == [["hello"], ["hello"]]
        assert model.revision == model.name == f"vllm:scripted:{script}"
        assert log.is_file()
    finally:
        model.close()
    assert _ended(group)
    assert not log.exists()
    model.close()


@pytest.mark.parametrize(
    ("command", "timeout", "why"),
    [
        (["no-such-command-anywhere"], 5.0, "install vLLM"),
        ([sys.executable, "-c", "import sys; sys.exit('CUDA is not there')"], 20.0, "CUDA is not there"),
        ([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], 20.0, "it ended with code 137"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], 0.8, "no answer within 0.8 s"),
    ],
)
def test_a_server_that_does_not_come_up(command: list[str], timeout: float, why: str) -> None:
    spec = parse_model({"model": "vllm:any", "vllm_command": command, "startup_timeout": timeout})
    with pytest.raises(UserError) as raised:
        open_model(spec)
    assert why in str(raised.value)


def test_only_the_end_of_a_long_log_is_shown() -> None:
    noisy = "import sys; [print(f'line {i}') for i in range(100)]; sys.exit(1)"
    spec = parse_model({"model": "vllm:any", "vllm_command": [sys.executable, "-c", noisy]})
    with pytest.raises(UserError) as raised:
        open_model(spec)
    assert "line 85" in str(raised.value)
    assert "line 84" not in str(raised.value)


def test_a_heartbeat_says_how_long_and_what_the_server_said_last() -> None:
    slow = "import time; print('loading weights: 40 %', flush=True); time.sleep(60)"
    spec = parse_model({"model": "vllm:big", "vllm_command": [sys.executable, "-c", slow], "startup_timeout": 1.5})
    lines: list[str] = []
    with pytest.raises(UserError):
        VllmModel(spec, heartbeat_s=0.3, say=lines.append)
    assert 2 <= len(lines) <= 5
    assert lines[-1].startswith("  waiting for the server of vllm:big, 1 s so far")
    assert "loading weights: 40 %" in lines[-1]


def test_a_heartbeat_reaches_standard_error_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    spec = parse_model(
        {"model": "vllm:big", "vllm_command": [sys.executable, "-c", "import time; time.sleep(9)"]}
        | {"startup_timeout": 0.5}
    )
    with pytest.raises(UserError):
        VllmModel(spec, heartbeat_s=0.1)
    assert "waiting for the server of vllm:big" in capsys.readouterr().err


def test_closing_kills_workers_that_do_not_listen(script: Path, tmp_path: Path) -> None:
    noted = tmp_path / "worker"
    model = VllmModel(_spec(script, sys.executable, "-c", WITH_WORKER, str(noted)))
    worker = int(noted.read_text())
    os.kill(worker, 0)
    group = _group(model)
    model.close()
    _await(lambda: _ended(group))


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="process groups are of POSIX")
@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_the_server_ends_with_the_process_that_started_it(script: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", CLIENT, f"vllm:scripted:{script}", sys.executable, str(SERVER)]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    with client:
        group = int(client.stdout.readline())
        assert not _ended(group)
        client.send_signal(number)
    _await(lambda: _ended(group))


def test_a_port_that_somebody_takes_first_is_given_up(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as squatter:
        # Bound without listening: nothing answers there, and nobody else can have it.
        squatter.bind((vllm.HOST, 0))
        ports = iter([squatter.getsockname()[1], vllm.free_port()])
        monkeypatch.setattr(vllm, "free_port", lambda: next(ports))
        model = VllmModel(_spec(script))
        try:
            assert next(ports, None) is None
        finally:
            model.close()


def test_a_server_that_dies_during_the_work_is_a_stop_with_its_log(script: Path, store: CallStore) -> None:
    dying = f"""
import sys, threading, runpy, time, os
def die():
    time.sleep(1.5); print("engine core died: out of memory", flush=True); os._exit(9)
threading.Thread(target=die, daemon=True).start()
sys.argv = [{str(SERVER)!r}, *sys.argv[1:]]
runpy.run_path({str(SERVER)!r}, run_name="__main__")
"""
    model = VllmModel(replace(_spec(script, sys.executable, "-c", dying), retries=0))
    try:
        _await(lambda: model._process is not None and model._process.poll() is not None)
        with pytest.raises(Stopped) as raised:
            ask(model, ["a"], Sampling(), store=store)
    finally:
        model.close()
    assert "it ended with code 9" in str(raised.value)
    assert "out of memory" in str(raised.value)
