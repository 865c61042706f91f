"""Servers that strop starts: they come up, answer, end with the model, and say why when they do not come up."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from strop.errors import UserError
from strop.models.asking import ask
from strop.models.opening import open_model
from strop.models.protocol import Sampling
from strop.models.spec import parse_model
from strop.models.vllm import VllmModel
from strop.runs.store import CallStore

SERVER = Path(__file__).with_name("openai_server.py")


def test_a_server_is_started_asked_and_stopped(tmp_path: Path, store: CallStore) -> None:
    script = tmp_path / "replies.yaml"
    script.write_text("default: hello")
    command = [sys.executable, str(SERVER)]
    spec = parse_model({"model": f"vllm:scripted:{script}", "vllm_command": command, "startup_timeout": 60})
    model = open_model(spec)
    assert isinstance(model, VllmModel)
    try:
        assert ask(model, ["a", "b"], Sampling(), store=store) == [["hello"], ["hello"]]
        assert model.revision == model.name == f"vllm:scripted:{script}"
    finally:
        model.close()
    with pytest.raises(ProcessLookupError):
        os.killpg(model._process.pid, 0)


@pytest.mark.parametrize(
    ("command", "timeout", "why"),
    [
        (["no-such-command-anywhere"], 5.0, "install vLLM"),
        ([sys.executable, "-c", "import sys; sys.exit('CUDA is not there')"], 20.0, "CUDA is not there"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], 0.8, "no answer within 0.8 s"),
    ],
)
def test_a_server_that_does_not_come_up(command: list[str], timeout: float, why: str) -> None:
    spec = parse_model({"model": "vllm:any", "vllm_command": command, "startup_timeout": timeout})
    with pytest.raises(UserError) as raised:
        open_model(spec)
    assert why in str(raised.value)
