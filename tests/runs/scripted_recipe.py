"""A small recipe with scripted calls that write slowly, run as a process of its own by `test_kill.py`.

Usage: scripted_recipe.py WORKSPACE ASKED PACE, or scripted_recipe.py --serve. Every asked call is written to the file
ASKED before it is stored.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from strop.errors import StropError
from strop.runs import Artifact, Config, Run, Stage, StoredCall, stream

QUESTIONS, BATCH, STEPS = 18, 3, 6
PACE_S = 0.004


class ScriptedConfig(Config):
    """Settings of the scripted recipe."""

    asked: str
    """The log of asked calls."""
    pace: float
    """Seconds between two steps."""


def ask(stage: Stage, prompts: list[str], config: dict[str, Any]) -> list[str]:
    """Answer from the store, or by script; each batch is stored before the next one is asked."""
    keys = [hashlib.sha256(f"{stage.name} {prompt}".encode()).hexdigest() for prompt in prompts]
    found = {key: call.text for key, call in stage.store.get_many(keys).items()}
    missing = [(key, prompt) for key, prompt in zip(keys, prompts, strict=True) if key not in found]
    with stage.progress("asking", len(missing)) as advance:
        for start in range(0, len(missing), BATCH):
            batch = missing[start : start + BATCH]
            log = os.open(config["asked"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(log, "".join(f"{key}\n" for key, _ in batch).encode())
            os.close(log)
            time.sleep(config["pace"])
            calls = [
                StoredCall(key, "scripted", "1", {"prompt": prompt}, 0, f"<{prompt}>", "stop", 3, 2, 0.0)
                for key, prompt in batch
            ]
            found |= {key: call.text for key, call in stage.store.put_many(calls).items()}
            advance(len(batch))
    return [found[key] for key in keys]


def questions(stage: Stage, count: int) -> None:
    draw = stream(stage.seed("questions"))
    stage.write_rows({"id": number, "question": f"q{draw.randrange(1000)}"} for number in range(count))


def answers(stage: Stage, asked: Artifact, config: Hidden) -> None:
    rows = asked.rows()
    texts = ask(stage, [row["question"] for row in rows], config.values)
    stage.write_rows({"id": row["id"], "response": text} for row, text in zip(rows, texts, strict=True))


def slow_file(stage: Stage, weak: Artifact, strong: Artifact, config: Hidden) -> None:
    rows = zip(weak.rows(), strong.rows(), strict=True)
    with (stage.folder / "pairs.txt").open("w", encoding="utf-8") as file:
        for left, right in rows:
            file.write(f"{left} {right}\n")
            file.flush()
            time.sleep(config.values["pace"] / 2)


def train(stage: Stage, pairs: Artifact, config: Hidden) -> None:
    checkpoint = stage.work / "checkpoint.json"
    state = json.loads(checkpoint.read_text()) if checkpoint.exists() else {"step": 0, "value": 0}
    size = len(pairs.path("pairs.txt").read_bytes())
    while state["step"] < STEPS:
        time.sleep(config.values["pace"])
        state = {"step": state["step"] + 1, "value": state["value"] * 31 + size}
        part = stage.work / "part"
        part.write_text(json.dumps(state))
        part.replace(checkpoint)
    (stage.folder / "model").mkdir()
    (stage.folder / "model" / "weights.json").write_text(json.dumps(state))


def report(stage: Stage, model: Artifact, pairs: Artifact) -> None:
    stage.note(value=json.loads(model.path("model/weights.json").read_text())["value"])
    stage.write_rows([{"model": model.digest, "pairs": pairs.digest}])


class Hidden:
    """Settings that change no artifact."""

    def __init__(self, config: ScriptedConfig) -> None:
        self.values = config.model_dump()

    def fingerprint(self) -> str:
        return "hidden"


def scripted(config: ScriptedConfig, run: Run) -> None:
    hidden = Hidden(config)
    asked = run.stage(questions, QUESTIONS, name="questions")
    weak = run.stage(answers, asked, hidden, name="weak-answers")
    strong = run.stage(answers, asked, hidden, name="strong-answers")
    pairs = run.stage(slow_file, weak, strong, hidden, name="pairs")
    model = run.stage(train, pairs, hidden, name="train")
    run.stage(report, model, pairs, name="report")


def execute(workspace: Path, asked: str, pace: float) -> int:
    config = ScriptedConfig(asked=asked, pace=pace)
    try:
        with Run.open(workspace / "run", config=config, origins={}, seed=7, workspace=workspace, quiet=True) as run:
            scripted(config, run)
    except StropError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def serve() -> None:
    """Execute the recipe in a new process for every line "WORKSPACE ASKED": the imports are paid for once."""
    for line in sys.stdin:
        workspace, asked = line.split()
        child = os.fork()
        if child == 0:
            os._exit(execute(Path(workspace), asked, PACE_S))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve()
    else:
        print("ready", flush=True)
        sys.exit(execute(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
