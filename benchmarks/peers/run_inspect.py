"""Inspect doing the work of the throughput benchmark: a task of one generation a sample, logged as it logs by default.

python run_inspect.py SERVER_ROOT CALLS FOLDER      (in Inspect's own environment, with `benchmarks` importable)
"""

from __future__ import annotations

import json
import os
import sys

from engine_work import IN_FLIGHT, MAX_TOKENS, MODEL, Prompts, count_right

PROVIDER = "bench"


def main(root: str, calls: int, folder: str, *, live_log: bool) -> None:
    """Evaluate the task, read the log's answers and print how many are right."""
    os.environ[f"{PROVIDER.upper()}_API_KEY"] = "none"
    from inspect_ai import Task, eval
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.log import read_eval_log
    from inspect_ai.solver import generate

    prompts = Prompts(calls)
    dataset = MemoryDataset([Sample(id=place + 1, input=prompt) for place, prompt in enumerate(prompts)])
    (log,) = eval(
        Task(dataset=dataset, solver=generate()),
        model=f"openai-api/{PROVIDER}/{MODEL}",
        model_base_url=f"{root}/v1",
        max_connections=IN_FLIGHT,
        max_samples=IN_FLIGHT,
        max_tokens=MAX_TOKENS,
        temperature=0.0,
        display="none",
        log_dir=folder,
        log_realtime=live_log,
    )
    # Back from disk, as the next step of a pipeline would read them.
    samples = read_eval_log(log.location).samples or []
    answers = {sample.id: sample.output.completion for sample in samples}
    right = count_right((prompt, answers.get(place + 1)) for place, prompt in enumerate(prompts))
    print(json.dumps({"right": right, "status": log.status}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], live_log="lean" not in sys.argv[4:])
