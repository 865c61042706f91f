"""distilabel doing the work of the throughput benchmark: a pipeline of rows and one `TextGeneration` step.

    python run_distilabel.py SERVER_ROOT CALLS FOLDER      (in distilabel's own environment, `benchmarks` importable)

Its step sends a batch at once and waits for all of it, so the batch size is what bounds the calls in flight.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from engine_work import IN_FLIGHT, MAX_TOKENS, MODEL, Prompts, count_right


def main(root: str, calls: int, folder: str) -> None:
    """Run the pipeline, look the answers up by prompt and print how many are right."""
    from distilabel.models.llms import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    prompts = Prompts(calls)
    model = OpenAILLM(
        model=MODEL,
        base_url=f"{root}/v1",
        api_key="none",
        generation_kwargs={"max_new_tokens": MAX_TOKENS, "temperature": 0.0},
    )
    with Pipeline(name="throughput", cache_dir=Path(folder) / "cache") as pipeline:
        rows = LoadDataFromDicts(data=[{"instruction": prompt} for prompt in prompts], batch_size=IN_FLIGHT)
        rows >> TextGeneration(llm=model, input_batch_size=IN_FLIGHT)
    found = pipeline.run(use_cache=False)["default"]["train"]
    answers = dict(zip(found["instruction"], found["generation"], strict=True))
    print(json.dumps({"right": count_right((prompt, answers.get(prompt)) for prompt in prompts)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
