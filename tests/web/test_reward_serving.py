"""The reward server: the published protocol, conversations, refusals, many clients, parity, an orderly end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from strop.errors import StropError, UserError
from strop.models.placement import Placement
from strop.models.rewards import Item, open_reward
from strop.models.rewards.folder import FolderReward
from strop.models.rewards.reading import render_text
from strop.models.rewards.served import ServedReward
from strop.records.rows import Message
from strop.web.reward_batching import Batcher
from strop.web.reward_serving import application, check_parity, running

WORDS = ["i", "feel", "sad", "tired", "alone", "what", "do", "you", "need", "work", "family", "night", "talk"]


def items(count: int) -> list[Item]:
    """Speeches and responses of many lengths, all of them different."""
    return [
        (f"i am {WORDS[number % 13]}", " ".join(WORDS[(number + step) % 13] for step in range(1 + number % 20)))
        for number in range(count)
    ]


@dataclass
class Served:
    address: str
    reward: FolderReward
    batcher: Batcher

    def post(self, content: Any, **more: Any) -> httpx2.Response:
        return httpx2.post(self.address, json=content, timeout=30, **more)


@pytest.fixture(scope="module")
def served(tiny_reward: Path) -> Iterator[Served]:
    reward = FolderReward(tiny_reward, device="cpu")
    batcher = Batcher(reward)
    with running(application(reward, batcher, normalised=False, host="127.0.0.1")) as address:
        yield Served(address, reward, batcher)
    batcher.close()


def test_the_published_form(served: Served) -> None:
    asked = items(7)
    texts = [render_text(served.reward.tokenizer, item, form="pair") for item in asked]
    reply = served.post({"query": texts})
    assert reply.status_code == 200
    assert reply.json()["rewards"] == pytest.approx(served.reward.score(asked), abs=1e-4)
    assert served.post({"query": texts[0]}).json()["rewards"] == pytest.approx(served.reward.score(asked[:1]), abs=1e-4)
    assert served.post({"query": []}).json() == {"rewards": []}


def test_ends_and_padding_around_a_text_change_nothing(served: Served) -> None:
    text = render_text(served.reward.tokenizer, items(1)[0], form="pair")
    variants = [text, text.removesuffix("[SEP]"), f"[PAD][SEP]{text}[SEP][PAD]", text + " [SEP]\n"]
    rewards = served.post({"query": variants}).json()["rewards"]
    assert rewards == pytest.approx([rewards[0]] * 4, abs=1e-5)


def test_the_client_is_a_reward_model(served: Served) -> None:
    asked: list[Item] = [
        *items(5),
        ((Message("user", "i am sad"), Message("assistant", "why ?"), Message("user", "work")), "talk ."),
    ]
    client = open_reward(served.address)
    told: list[int] = []
    assert client.score(asked, advance=told.append) == pytest.approx(served.reward.score(asked), abs=1e-4)
    assert (client.name, client.revision, sum(told)) == (served.reward.name, served.reward.revision, 6)
    client.close()


def test_thirty_two_clients_at_a_time(served: Served) -> None:
    """Every client gets its own scores, and they shared batches."""
    before = len(served.batcher.batches)
    asked = items(32 * 3)
    offline = [served.reward.score([item])[0] for item in asked]

    def client(number: int) -> list[float]:
        own = ServedReward(served.address)
        try:
            return own.score(asked[3 * number : 3 * number + 3])
        finally:
            own.close()

    with ThreadPoolExecutor(32) as clients:
        found = [reward for rewards in clients.map(client, range(32)) for reward in rewards]
    assert found == pytest.approx(offline, abs=1e-4)
    assert sum(served.batcher.batches[before:]) == 96
    assert len(served.batcher.batches) - before <= 32


def test_a_text_over_the_window_is_refused_and_spoils_no_other(served: Served) -> None:
    long = {"query": ["[CLS] i am sad [SEP] " + "very " * 80]}
    with ThreadPoolExecutor(8) as clients:
        replies = list(
            clients.map(lambda number: served.post(long if number % 2 else {"query": ["[CLS] a [SEP] b"]}), range(8))
        )
    assert [reply.status_code for reply in replies] == [200, 422] * 4
    assert "window is 64 tokens" in replies[1].json()["error"]
    with pytest.raises(UserError, match="refuses"):
        open_reward(served.address).score([("sad", "very " * 80)])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({}, "'query'"),
        ({"query": ["a"], "messages": []}, "'query'"),
        ({"query": [1]}, "list of texts"),
        ({"messages": "hello"}, "list of conversations"),
        ({"messages": ["hello"]}, "conversation 1"),
        ({"messages": [[{"role": "user", "content": "hello"}]]}, "conversation 1"),
        ({"messages": [[{"role": "user"}]]}, "conversation 1"),
        ([], "JSON object"),
    ],
)
def test_what_cannot_be_read(served: Served, content: Any, told: str) -> None:
    reply = served.post(content)
    assert reply.status_code == 400
    assert told in reply.json()["error"]


def test_other_requests(served: Served) -> None:
    assert httpx2.post(served.address, content=b"\xff{").status_code == 400
    assert httpx2.get(served.address).status_code == 405
    root = served.address.removesuffix("/get_reward")
    assert httpx2.get(f"{root}/health").json() == {"status": "ok"}
    told = httpx2.get(f"{root}/info").json()
    assert (told["max_length"], told["form"], told["heads"], told["normalised"]) == (64, "pair", [], False)
    assert httpx2.get(f"{root}/info", headers={"host": "evil.example"}).status_code == 400


def test_normalised_scores(tiny_reward: Path) -> None:
    """(r - 0.5) / 2: the mean and the deviation of the folder's reward.json."""
    reward = FolderReward(tiny_reward, device="cpu")
    batcher = Batcher(reward, normalised=True)
    app = application(reward, batcher, normalised=True, host="127.0.0.1")
    assert check_parity(reward, app, normalised=True) < 1e-4
    with running(app) as address:
        found = open_reward(address).score(items(3))
    assert found == pytest.approx([(raw - 0.5) / 2 for raw in reward.score(items(3))], abs=1e-4)
    batcher.close()


class Shifted(FolderReward):
    """Reads served texts in another way than it was trained."""

    def read_texts(self, texts: Any) -> list[list[int]]:
        return super().read_texts([f"{text} so" for text in texts])


def test_a_server_that_scores_otherwise_is_found_out(tiny_reward: Path) -> None:
    reward = Shifted(tiny_reward, device="cpu")
    batcher = Batcher(reward)
    with pytest.raises(StropError, match="not the offline ones"):
        check_parity(reward, application(reward, batcher, normalised=False, host="127.0.0.1"), normalised=False)
    batcher.close()


def test_a_closed_batcher_takes_nothing(tiny_reward: Path) -> None:
    reward = FolderReward(tiny_reward, device="cpu")
    batcher = Batcher(reward)
    waiting = [batcher.submit(lambda: reward.read_items(items(2))) for _ in range(5)]
    batcher.close()
    assert all(len(done.result(timeout=1)) == 2 for done in waiting)
    with pytest.raises(StropError, match="stopping"):
        batcher.submit(list).result(timeout=1)


@pytest.mark.slow
def test_the_command_serves_and_ends_in_order(tiny_reward: Path) -> None:
    """A request that is in flight when the signal comes is answered, and the exit code is 0."""
    command = [sys.executable, "-c", "from strop.cli.main import main; main()", "serve-reward", str(tiny_reward)]
    command += ["--port", "0", "--device", "cpu"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    told = []
    for line in lines:
        told.append(line)
        if line.startswith("http://"):
            break
    address = told[-1].split()[0]
    assert any("served and offline scores agree" in line for line in told)
    with ThreadPoolExecutor(1) as client:
        many = client.submit(lambda: httpx2.post(address, json={"query": ["[CLS] a [SEP] b"] * 20_000}, timeout=60))
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert len(json.loads(many.result().text)["rewards"]) == 20_000
    assert process.wait(timeout=30) == 0


def test_a_folder_that_is_no_reward_model(tiny_encoder: Path) -> None:
    with pytest.raises(UserError, match=r"no such reward model|reward.json"):
        open_reward(tiny_encoder, Placement(device="cpu"))
