"""The stages of online DPO on a tiny policy and a reward that counts words: real sampling, real training, real runs."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "models"))
from strop.errors import Stopped, UserError
from strop.methods.preference import online_stages as stages
from strop.methods.preference.online_config import OnlineSettings, WatchLimits
from strop.methods.preference.policies import Answering, adapter_of, is_whole
from strop.models.spec import ModelSpec, parse_model
from strop.runs import Artifact, Config, Run
from strop.runs.budget import Budget
from strop.runs.content import hash_tree
from strop.training.machine import Machine, Model
from strop.training.weights import start_revision
from tiny_llama import WORDS, build_model, build_tokenizer

CPU = Machine(device="cpu")
TRAIN: dict[str, Any] = {
    "learning_rate": 3e-3,
    "max_steps": 2,
    "batch_size": 4,
    "micro_batch_size": 4,
    "max_length": 128,
    "too_long_ceiling": 1.0,
}
LORA = {"rank": 2, "alpha": 8, "merge": False}
ANSWERING = Answering(system="", max_tokens=16, seed=5)

Rows = Sequence[dict[str, Any]]
Make = Callable[..., Artifact]


class NoSettings(Config):
    """A run without settings of its own."""


@pytest.fixture(scope="module")
def initial(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """A tiny random policy with a chat template."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("policy") / "model"
    tokenizer = build_tokenizer(chat=True)
    tokenizer.save_pretrained(folder)
    build_model(tokenizer).save_pretrained(folder)
    return parse_model(str(folder))


def open_run(folder: Path, **arguments: Any) -> Any:
    return Run.open(folder / "run", config=NoSettings(), origins={}, seed=0, workspace=folder, quiet=True, **arguments)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with open_run(tmp_path) as opened:
        yield opened


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write tables into a folder and return it as an artifact."""
    counter = iter(range(1000))

    def artifact(**tables: Rows) -> Artifact:
        folder = tmp_path / f"made-{next(counter)}"
        folder.mkdir()
        for name, rows in tables.items():
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return Artifact(folder.name, folder, hash_tree(folder))

    return artifact


def speech(number: int) -> str:
    return f"how many {WORDS[2 + number % 10]} and {number}"


@pytest.fixture
def speeches(make: Make) -> Artifact:
    """Six speeches to train on, four for development."""
    return make(
        train=[{"id": f"t{n}", "speech": speech(n)} for n in range(6)],
        development=[{"id": f"d{n}", "speech": speech(n + 50)} for n in range(4)],
    )


def settings(**changes: Any) -> OnlineSettings:
    given: dict[str, Any] = {
        "iterations": 2,
        "speeches": 4,
        "samples": 3,
        "max_tokens": 12,
        "gate": False,
        "cut_may_win": True,
        "train": TRAIN,
    }
    return OnlineSettings.model_validate(given | changes)


def play(
    run: Run, initial: ModelSpec, speeches: Artifact, online: OnlineSettings, rounds: int = 2
) -> tuple[list[Artifact], list[Artifact]]:
    """Go through the rounds as the recipe does; return the pairs and the policies."""
    policy: Model = initial
    pairs: list[Artifact] = []
    policies: list[Artifact] = []
    for number in range(rounds):
        samples = run.stage(
            stages.sample_slice,
            policy,
            speeches,
            initial=initial,
            iteration=number,
            settings=online,
            system="",
            seed=number,
            placement=CPU,
            name=f"samples{number}",
        )
        scores = run.stage(stages.score_samples, samples, "words", placement=CPU, name=f"scores{number}")
        picked = run.stage(stages.pick_pairs, samples, scores, settings=online, system="", name=f"pairs{number}")
        policy = trained = run.stage(
            stages.improve,
            policy,
            picked,
            initial=initial,
            settings=online.train,
            machine=CPU,
            seed=number,
            name=f"policy{number}",
        )
        pairs.append(picked)
        policies.append(trained)
    return pairs, policies


def look(run: Run, policy: Model, initial: ModelSpec, speeches: Artifact, *, name: str, **changes: Any) -> Artifact:
    arguments: dict[str, Any] = {"answering": ANSWERING, "limit": None, "rewards": {"reward": "words"}} | changes
    return run.stage(
        stages.examine, policy, initial, speeches, split="development", placement=CPU, name=name, **arguments
    )


def calls(workspace: Path) -> int:
    """Count the calls that the workspace has stored."""
    (store,) = workspace.glob("*.sqlite")
    with closing(sqlite3.connect(store)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM calls").fetchone()
    return int(count)


def test_exactly_slice_by_samples_calls(run: Run, tmp_path: Path, initial: ModelSpec, speeches: Artifact) -> None:
    """Two rounds of four speeches and three samples are 24 calls, and the second slice wraps."""
    play(run, initial, speeches, settings())
    assert calls(tmp_path) == 2 * 4 * 3
    taken = [[row["id"] for row in run.artifacts[f"samples{number}"].rows()] for number in range(2)]
    assert taken == [["t0", "t1", "t2", "t3"], ["t4", "t5", "t0", "t1"]]
    assert all(len(row["responses"]) == len(row["finishes"]) == 3 for row in run.artifacts["samples0"].rows())


def test_pairs_are_best_against_worst(run: Run, initial: ModelSpec, speeches: Artifact) -> None:
    pairs, _ = play(run, initial, speeches, settings(), rounds=1)
    rows = {row["id"]: row for row in run.artifacts["samples0"].rows()}
    for pair in pairs[0].rows("pairs.jsonl"):
        words = [float(len(text.split())) for text in rows[pair["id"]]["responses"]]
        assert (pair["chosen_reward"], pair["rejected_reward"]) == (max(words), min(words))
        assert pair["chosen"] in rows[pair["id"]]["responses"]
        assert pair["prompt"] == [{"role": "user", "content": rows[pair["id"]]["speech"]}]


def test_equal_speeches_with_ids_of_their_own(run: Run, make: Make) -> None:
    """Rows are matched by id, so equal speeches are not merged, whatever the order of the rewards."""
    samples = make(
        rows=[
            {"id": name, "speech": "one speech", "responses": [f"{name} a", f"{name} b"], "finishes": ["stop"] * 2}
            for name in ("x", "y")
        ]
    )
    scores = make(rows=[{"id": "y", "rewards": [2.0, 1.0]}, {"id": "x", "rewards": [0.0, 5.0]}])
    picked = run.stage(stages.pick_pairs, samples, scores, settings=settings(), system="", name="picked")
    assert [(row["id"], row["chosen"]) for row in picked.rows("pairs.jsonl")] == [("x", "x b"), ("y", "y a")]


def sampled(make: Make, *responses: tuple[str, str, float]) -> tuple[Artifact, Artifact]:
    """One speech; each response with its finish and its reward."""
    texts, finishes, rewards = zip(*responses, strict=True)
    samples = make(rows=[{"id": "s", "speech": "I feel low", "responses": list(texts), "finishes": list(finishes)}])
    return samples, make(rows=[{"id": "s", "rewards": list(rewards)}])


def test_what_was_cut_is_never_chosen(run: Run, make: Make) -> None:
    """The best answer was cut in the middle: training on it would teach the policy to end there."""
    given = sampled(make, ("best but cu", "length", 3.0), ("whole", "stop", 2.0), ("worst and c", "length", 1.0))
    online = settings(cut_may_win=False)
    picked = run.stage(stages.pick_pairs, *given, settings=online, system="", name="picked")
    (pair,) = picked.rows("pairs.jsonl")
    assert (pair["chosen"], pair["rejected"]) == ("whole", "worst and c")
    told = json.loads(picked.path("picked.json").read_text())
    assert told == {"pairs": 1, "skipped": {}, "barred": {"cut by the token limit": 2}}


def test_the_gate_bars_the_winner(run: Run, make: Make) -> None:
    """The safety gate, which knows the speech: a reply that passes over danger is never chosen."""
    samples, scores = sampled(
        make, ("Have a nice day, bye.", "stop", 9.0), ("no", "stop", 0.0), ("I hear you.", "stop", 5.0)
    )
    (row,) = samples.rows()
    danger = make(rows=[{**row, "speech": "I am going to kill myself tonight. I have the pills in my hand."}])
    with pytest.raises(UserError, match="no speech of this round gives a pair"):
        run.stage(stages.pick_pairs, danger, scores, settings=settings(gate=True), system="", name="danger")
    picked = run.stage(stages.pick_pairs, danger, scores, settings=settings(gate=False), system="", name="open")
    assert picked.rows("pairs.jsonl")[0]["chosen"] == "Have a nice day, bye."


def test_no_pair_at_all(run: Run, make: Make) -> None:
    given = sampled(make, ("one", "stop", 1.0), ("two", "stop", 1.0))
    with pytest.raises(UserError, match="equal rewards"):
        run.stage(stages.pick_pairs, *given, settings=settings(), system="", name="picked")


@pytest.mark.parametrize("lora", [None, LORA])
def test_reference_is_the_initial_policy(
    run: Run, initial: ModelSpec, speeches: Artifact, lora: dict[str, Any] | None
) -> None:
    """Round 1 starts at margin 0; round 2 does not, for its reference is still the first model, whose files stay."""
    before = start_revision(Path(initial.target))
    _, policies = play(run, initial, speeches, settings(train={**TRAIN, "lora": lora}))
    assert start_revision(Path(initial.target)) == before
    margins = [
        abs(json.loads(run.artifacts[f"policy{n}"].path("outcome.json").read_text())["curve"][0]["rewards/margins"])
        for n in range(2)
    ]
    assert margins[0] < 1e-5
    assert margins[1] > 1e-3
    assert [is_whole(policy) for policy in policies] == [lora is None] * 2
    assert [adapter_of(policy) is None for policy in policies] == [lora is None] * 2


def test_an_adapter_answers_as_its_merged_policy(run: Run, initial: ModelSpec, speeches: Artifact) -> None:
    """A round that leaves megabytes is examined like the whole weights that `keep_policy` makes of it."""
    online = settings(train={**TRAIN, "learning_rate": 3e-2, "lora": LORA})
    _, (_, policy) = play(run, initial, speeches, online)
    whole = run.stage(stages.keep_policy, policy, initial=initial, name="whole")
    assert is_whole(whole)
    examined = [look(run, one, initial, speeches, name=name) for one, name in ((policy, "adapter"), (whole, "merged"))]
    assert examined[0].digest == examined[1].digest
    assert any(abs(row["log_ratio"]) > 1e-3 for row in examined[0].rows())


def test_examined_beside_the_initial_policy(run: Run, initial: ModelSpec, speeches: Artifact) -> None:
    """The initial policy is exactly no nats away from itself; all rewards and measures are there."""
    examined = look(run, initial, initial, speeches, name="start", rewards={"reward": "words", "second": "words"})
    rows = examined.rows()
    assert [row["id"] for row in rows] == ["d0", "d1", "d2", "d3"]
    assert all(row["log_ratio"] == 0.0 and row["tokens"] > 0 for row in rows)
    assert all(row["rewards"]["reward"] == row["rewards"]["second"] == len(row["response"].split()) for row in rows)
    told = json.loads(examined.path("measures.json").read_text())
    assert told["kl"] == 0.0
    assert told["n"] == 4
    assert told["rewards"]["reward"] == pytest.approx(sum(row["rewards"]["reward"] for row in rows) / 4)
    assert len(look(run, initial, initial, speeches, name="few", limit=2).rows()) == 2


def test_log_ratio_is_that_of_the_written_tokens(run: Run, initial: ModelSpec, speeches: Artifact) -> None:
    """Computed again with transformers alone: an answer that was cut ends without the end token."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _, (policy,) = play(run, initial, speeches, settings(train={**TRAIN, "learning_rate": 3e-2}), rounds=1)
    examined = look(run, policy, initial, speeches, name="examined").rows()
    tokenizer = AutoTokenizer.from_pretrained(initial.target)
    models = [AutoModelForCausalLM.from_pretrained(one).eval() for one in (policy.path("model"), initial.target)]
    for row in examined:
        turns = [{"role": "user", "content": row["prompt"]}]
        prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        whole = prompt + row["response"] + ("" if row["finish"] == "length" else tokenizer.eos_token)
        ids = torch.tensor([tokenizer(whole, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            scored = [
                one(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[start - 1 :, 0] for one in models
            ]
        assert row["log_ratio"] == pytest.approx((scored[0].sum() - scored[1].sum()).item(), abs=1e-3)
        assert row["tokens"] == len(scored[0])


def examination(make: Make, texts: Sequence[str], reward: float = 0.0) -> Artifact:
    rows = [
        {"id": n, "response": text, "finish": "stop", "log_ratio": 0.0, "tokens": 9, "rewards": {"reward": reward}}
        for n, text in enumerate(texts)
    ]
    return make(rows=rows)


def test_watch_inside_the_limits(run: Run, make: Make) -> None:
    start = examination(make, [f"I hear you, number {n}" for n in range(12)])
    seen = run.stage(stages.watch, start, start, limits=WatchLimits(), iteration=1, seed=0, name="watch")
    told = json.loads(seen.path("watch.json").read_text())
    assert {one["measure"] for one in told["watched"]} == set(WatchLimits.model_fields)
    assert not any(one["broken"] for one in told["watched"])


def test_watch_stops_the_run_and_a_wider_limit_goes_on(run: Run, make: Make) -> None:
    """Nothing is lost: with other limits only the watch itself runs again."""
    start = examination(make, [f"I hear you, number {n}" for n in range(12)])
    now = examination(
        make, [f"I hear you, number {n}, and I hear you well, and all of it, again {n}" for n in range(12)]
    )
    with pytest.raises(
        Stopped, match=r"over-optimisation after round 3.*times their first length \(limit 1.8\)"
    ) as told:
        run.stage(stages.watch, now, start, limits=WatchLimits(), iteration=3, seed=0, name="watch")
    assert told.value.exit_code == 3
    wide = WatchLimits(length_ratio=10, repetition=None, distinct_2_ratio=None)
    assert run.stage(stages.watch, now, start, limits=wide, iteration=3, seed=0, name="watch")


def test_a_reward_that_counts_words_raises_the_alarm(run: Run, make: Make, initial: ModelSpec) -> None:
    """The reward rises on speeches that nothing was trained on, as it would for a good one; the watch stops it."""
    speeches = make(
        train=[{"id": f"t{n}", "speech": speech(n)} for n in range(8)],
        development=[{"id": f"d{n}", "speech": speech(n + 50)} for n in range(16)],
    )
    train = {**TRAIN, "learning_rate": 1e-2, "max_steps": 8, "batch_size": 8, "micro_batch_size": 8}
    online = settings(speeches=8, samples=6, max_tokens=48, train=train)
    _, (policy,) = play(run, initial, speeches, online, rounds=1)
    answering = Answering(system="", max_tokens=48, seed=5)
    start, now = (
        look(run, one, initial, speeches, name=name, answering=answering)
        for one, name in ((initial, "start"), (policy, "now"))
    )
    rewards = [sum(row["rewards"]["reward"] for row in one.rows()) for one in (start, now)]
    assert rewards[1] > rewards[0]
    with pytest.raises(Stopped, match="nats a token away from the initial one"):
        run.stage(stages.watch, now, start, limits=WatchLimits(), iteration=1, seed=0, name="watch")


def test_checkpoint_by_development_reward(run: Run, make: Make) -> None:
    """The highest mean reward wins; of equal ones the earliest, so that nothing is trained for nothing."""
    looks = {name: examination(make, ["a"], reward) for name, reward in (("one", 1.0), ("two", 3.0), ("three", 3.0))}
    chosen = run.stage(stages.choose_checkpoint, looks, reward="reward", name="choice")
    told = json.loads(chosen.path("chosen.json").read_text())
    assert told == {"chosen": "two", "means": {"one": 1.0, "two": 3.0, "three": 3.0}, "reward": "reward"}


def digests(artifacts: Sequence[Any]) -> list[str]:
    return [one.digest for one in artifacts]


def test_a_stopped_round_goes_on_with_the_same_pairs(tmp_path: Path, initial: ModelSpec, speeches: Artifact) -> None:
    """A budget ends the second sampling; the continued run asks only the rest, and its artifacts are the same."""
    with open_run(tmp_path / "whole") as whole:
        expected, policies = play(whole, initial, speeches, settings())
    with pytest.raises(Stopped), open_run(tmp_path / "cut", budget=Budget(calls=17)) as cut:
        play(cut, initial, speeches, settings())
    assert calls(tmp_path / "cut") == 17
    with open_run(tmp_path / "cut") as again:
        pairs, further = play(again, initial, speeches, settings())
    assert calls(tmp_path / "cut") == 24
    assert digests(pairs) == digests(expected)
    assert digests(further) == digests(policies)


KILLED = """
import importlib, os, signal, sys
from pathlib import Path
from strop.models.spec import parse_model
from strop.runs import Artifact
from strop.runs.content import hash_tree
from strop.runs.store import CallStore

put, batches = CallStore.put_many, iter(range(100))

def dying(store, calls):
    stored = put(store, calls)
    if next(batches) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return stored

CallStore.put_many = dying
module = importlib.import_module(sys.argv[1])
folder, policy, speeches = map(Path, sys.argv[2:])
with module.open_run(folder) as run:
    initial = parse_model({"model": str(policy), "batch_size": 2})
    module.play(run, initial, Artifact("speeches", speeches, hash_tree(speeches)), module.settings())
"""


@pytest.mark.slow
def test_a_killed_round_goes_on_with_the_same_pairs(tmp_path: Path, initial: ModelSpec, speeches: Artifact) -> None:
    """SIGKILL behind the fifth batch, in the middle of the second round."""
    small = parse_model({"model": initial.target, "batch_size": 2})
    with open_run(tmp_path / "whole") as whole:
        expected, policies = play(whole, small, speeches, settings())
    command = [sys.executable, "-c", KILLED, __name__, str(tmp_path / "killed"), initial.target, str(speeches.folder)]
    paths = [str(Path(__file__).parents[3]), *sys.path]
    ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert 0 < calls(tmp_path / "killed") < 24
    with open_run(tmp_path / "killed") as again:
        pairs, further = play(again, small, speeches, settings())
    assert calls(tmp_path / "killed") == 24
    assert digests(pairs) == digests(expected)
    assert digests(further) == digests(policies)
