"""The engine and the serving check against llama.cpp's own server, which runs SmolLM2 in a process of its own."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_server import NAME, LlamaServer
from strop.cli.main import run
from strop.models.asking import ask_each
from strop.models.builtin import SMOLLM2, builtin_folder
from strop.models.endpoints.endpoint import EndpointModel
from strop.models.endpoints.vllm import free_port
from strop.models.local import LocalModel
from strop.models.protocol import Sampling
from strop.models.serving.served import open_served
from strop.models.serving.serving_check import PROMPTS, ServingCheck, check_serving
from strop.models.serving.serving_text import lines_of, verdict
from strop.models.spec import parse_model
from strop.records.rows import Message, Prompt
from strop.records.tables import read_table, write_table
from strop.runs.calls import StoredCall
from strop.runs.store import CallStore
from strop.runs.workspace import store_path

STROP = [sys.executable, "-c", "from strop.cli.main import main; main()"]
BRACKETS = "{% for turn in messages %}[{{ turn.role }}] {{ turn.content }}\n{% endfor %}[assistant]"


@pytest.fixture(scope="session")
def smollm2(smollm2_gguf: Path) -> LocalModel:
    """SmolLM2 on this side, in float32; the first use converts it, about a minute."""
    import torch

    torch.set_num_threads(1)
    return LocalModel(builtin_folder(SMOLLM2), device="cpu")


def _check(url: str, model: LocalModel, prompts: dict[str, Prompt], *, max_tokens: int) -> ServingCheck:
    with contextlib.closing(open_served(url)) as served:
        return check_serving(served, model, prompts, max_tokens=max_tokens)


def test_calls_are_answered_and_kept(llama: LlamaServer, store: CallStore) -> None:
    model = EndpointModel(parse_model({"model": f"{llama.url}#{NAME}", "chat": "on"}))
    prompts = [f"Say the number {number}." for number in range(6)]
    sampling = Sampling(temperature=1.0, max_tokens=4)
    with contextlib.closing(model):
        first = list(ask_each(model, prompts, sampling, samples=2, store=store))
        answers = [answer for row in first for answer in row]
        assert store.sizes().calls == 12
        assert len({answer.key for answer in answers}) == 12
        for answer in answers:
            assert isinstance(answer, StoredCall)
            # llama.cpp counts only the first of several samples of a request: each is asked for on its own.
            assert answer.completion_tokens == 4 if answer.finish == "length" else answer.completion_tokens <= 4
            assert answer.prompt_tokens > 0
        assert list(ask_each(model, prompts, sampling, samples=2, store=store)) == first


def test_greedy_text_is_the_same_each_time(llama: LlamaServer, tmp_path: Path) -> None:
    texts = []
    for number in range(2):
        model = EndpointModel(parse_model({"model": f"{llama.url}#{NAME}"}))
        with contextlib.closing(model), CallStore(tmp_path / f"{number}.sqlite") as store:
            rows = list(ask_each(model, ["The sky is"], Sampling(max_tokens=6), store=store))
        texts += [answer.text for row in rows for answer in row if isinstance(answer, StoredCall)]
    assert texts[0] == texts[1]
    assert len(texts) == 2


@pytest.mark.slow
def test_server_and_local_model_are_the_same(llama: LlamaServer, smollm2: LocalModel) -> None:
    found = _check(llama.url, smollm2, dict(PROMPTS), max_tokens=24)
    assert found.same, verdict(found)
    assert found.kind == "llama.cpp"
    assert found.template == found.server_template
    assert [check.evidence for check in found.prompts] == ["tokens"] * len(PROMPTS)
    assert found.log_prob_difference is not None
    # Q4_1 weights on both sides; llama.cpp also rounds what it multiplies them with.
    assert found.log_prob_difference < 0.15


def test_a_wrong_template_of_the_server_is_named(smollm2_gguf: Path, smollm2: LocalModel, tmp_path: Path) -> None:
    """SmolLM2's template opens with token 1, `<|im_start|>`; the wrong one with the bracket of `[user]`."""
    (tmp_path / "brackets.jinja").write_text(BRACKETS)
    server = LlamaServer(
        smollm2_gguf,
        free_port(),
        tmp_path / "server.log",
        parallel=1,
        context=256,
        chat_template=tmp_path / "brackets.jinja",
    )
    with server:
        found = _check(server.url, smollm2, {"hello": (Message("user", "Hello"),)}, max_tokens=1)
    assert not found.same
    assert found.template != found.server_template
    difference = found.prompts[0].difference
    assert difference is not None
    assert difference.index == 0
    assert difference.server is not None
    assert difference.local is not None
    assert (difference.server.text, difference.local.text) == ("[", "<|im_start|>")
    shown = "\n".join(lines_of(found))
    assert f"server {difference.server.id} '[', local 1 '<|im_start|>'" in shown


@pytest.mark.slow
def test_the_verb_names_a_wrong_template_of_the_local_model(
    llama: LlamaServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without SmolLM2's default system line the first tokens are still equal; the second is `user` for `system`."""
    turn = "{{ '<|im_start|>' + turn.role + '\n' + turn.content + '<|im_end|>\n' }}"
    shorter = "{% for turn in messages %}" + turn + "{% endfor %}"
    (tmp_path / "shorter.jinja").write_text(shorter + "{{ '<|im_start|>assistant\n' }}")
    write_table(tmp_path / "p.jsonl", [{"id": "hello", "prompt": [{"role": "user", "content": "Hello"}]}])
    command = ["endpoint", "check", llama.url, "--model", f"builtin:{SMOLLM2}", "--prompts", str(tmp_path / "p.jsonl")]
    options = ["--chat-template", str(tmp_path / "shorter.jinja"), "--max-tokens", "1", "--quiet", "--json"]
    assert run([*command, *options]) == 2
    difference = json.loads(capsys.readouterr().out)["prompts"][0]["difference"]
    assert (difference["index"], difference["server"]["text"], difference["local"]["text"]) == (1, "system", "user")
    assert difference["before"] == "<|im_start|>"


def _miscounted(workspace: Path, *, limit: int) -> int:
    """Return how many answers were cut at `limit` tokens and are on the books with another number."""
    with contextlib.closing(sqlite3.connect(store_path(workspace))) as connection:
        wrong = "SELECT count(*) FROM calls WHERE finish = 'length' AND completion_tokens != ?"
        return int(connection.execute(wrong, (limit,)).fetchone()[0])


def _stored(workspace: Path) -> tuple[int, int]:
    """Return how many calls the store holds, and how many different ones."""
    path = store_path(workspace)
    if not path.is_file():
        return 0, 0
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        try:
            (counts,) = connection.execute("SELECT count(*), count(DISTINCT key) FROM calls").fetchall()
        except sqlite3.OperationalError:
            return 0, 0
    return int(counts[0]), int(counts[1])


@pytest.fixture
def mortal(smollm2_gguf: Path, tmp_path: Path) -> Iterator[LlamaServer]:
    """A server that a test may kill."""
    server = LlamaServer(smollm2_gguf, free_port(), tmp_path / "server.log", parallel=8, context=256)
    with server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize(("prompts", "samples", "kill_at"), [(200, 4, 400)])
def test_a_server_that_is_killed_half_way_costs_no_call(
    mortal: LlamaServer, tmp_path: Path, prompts: int, samples: int, kill_at: int
) -> None:
    calls = prompts * samples
    write_table(tmp_path / "prompts.jsonl", [{"id": i, "prompt": f"A fact about {i}:"} for i in range(prompts)])
    command = [*STROP, "generate", str(tmp_path / "prompts.jsonl"), "--model", f"{mortal.url}#{NAME}"]
    command += ["--n", str(samples), "--max-tokens", "16", "--out", str(tmp_path / "answers.jsonl")]
    command += ["--workspace", str(tmp_path / "runs")]
    client = subprocess.Popen(command)
    try:
        while (stored := _stored(tmp_path / "runs")[0]) < kill_at:
            assert client.poll() is None, f"it ended with {stored} answers"
            time.sleep(0.2)
        mortal.kill()
        # Long enough for the client to meet the dead server; it may wait for it or stop.
        with contextlib.suppress(subprocess.TimeoutExpired):
            client.wait(10)
        at_the_kill = _stored(tmp_path / "runs")[0]
        assert kill_at <= at_the_kill < calls
        mortal.start()
        code = client.wait()
    finally:
        client.kill()
    if code == 3:
        code = subprocess.run(command, check=False).returncode
    assert code == 0
    assert _stored(tmp_path / "runs") == (calls, calls)
    assert _miscounted(tmp_path / "runs", limit=16) == 0
    rows = read_table(tmp_path / "answers.jsonl")
    assert [row["id"] for row in rows] == list(range(prompts))
    assert {len(row["responses"]) for row in rows} == {samples}
