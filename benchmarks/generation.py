"""How much cheaper ten samples of a prompt are in one pass than in ten, side by side in one run.

    python benchmarks/generation.py [--model tiny|MODEL] [--prompts 24] [--samples 10] [--json FILE]

One pass asks for all samples at once: a prompt is read once for all of them, and a batch is as large as it may be.
Ten passes ask for one sample of every prompt, ten times, as a loop over a generator does. Both give the same texts,
which is checked. The two alternate and the median of the rounds counts, in processor time, which other work on the
machine does not change as it changes wall time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median

from strop.methods.weak_to_strong.stories import draw_story, solve, vocabulary
from strop.models.local import LocalModel
from strop.models.opening import model_folder
from strop.models.protocol import Call, Completion, Sampling
from strop.models.spec import parse_model

ROUNDS = 3


def tiny_model(folder: Path) -> Path:
    """Write an untrained Llama of the size of the strong story base (1.8 million parameters) and return its folder."""
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokens = {token: index for index, token in enumerate(["<pad>", "<eos>", "<unk>", *vocabulary()])}
    inner = Tokenizer(models.WordLevel(tokens, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[A-Za-z]+| ?\d+|\n| ?#+| ?[^\sA-Za-z\d#]"), "isolated")
    inner.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def prompts(count: int) -> list[str]:
    """Four solved stories and an open one each; every prompt has demonstrations of its own."""
    random = Random(0)
    drawn = []
    for _ in range(count):
        solved = [draw_story(random, steps=2) for _ in range(4)]
        shown = "\n\n".join(f"Question: {story.question}\nAnswer: {solve(story)}" for story in solved)
        drawn.append(f"{shown}\n\nQuestion: {draw_story(random, steps=2).question}\nAnswer:")
    return drawn


def complete(model: LocalModel, calls: list[Call]) -> dict[Call, str]:
    """Return the text of every call."""
    found = {}
    for batch in model.complete(calls):
        for index, outcome in batch:
            assert isinstance(outcome, Completion), outcome
            found[calls[index]] = outcome.text
    return found


@dataclass(frozen=True)
class Timed:
    """What a run gave, with its processor and wall seconds."""

    texts: dict[Call, str]
    cpu_s: float
    wall_s: float


def timed(run: Callable[[], dict[Call, str]]) -> Timed:
    """Run and look at the clocks."""
    cpu, wall = time.process_time(), time.perf_counter()
    texts = run()
    return Timed(texts, time.process_time() - cpu, time.perf_counter() - wall)


def measure(model: LocalModel, *, count: int, samples: int) -> dict[str, float | str | int]:
    """Time one pass and as many passes as samples, alternating."""
    sampling = Sampling(temperature=1.0, max_tokens=25, seed=0)
    passes = [[Call(prompt, sampling, sample) for prompt in prompts(count)] for sample in range(samples)]
    everything = [call for calls in passes for call in calls]

    def one_pass() -> dict[Call, str]:
        return complete(model, everything)

    def many_passes() -> dict[Call, str]:
        found: dict[Call, str] = {}
        for calls in passes:
            found |= complete(model, calls)
        return found

    complete(model, passes[0][:1])  # the first call sets things up
    rounds = [(timed(one_pass), timed(many_passes)) for _ in range(ROUNDS)]
    assert all(one.texts == many.texts for one, many in rounds), "one pass and many passes gave different texts"
    one_cpu, many_cpu = (median(pair[which].cpu_s for pair in rounds) for which in (0, 1))
    one_wall, many_wall = (median(pair[which].wall_s for pair in rounds) for which in (0, 1))
    return {
        "model": model.name,
        "prompts": count,
        "samples": samples,
        "one_pass_cpu_s": round(one_cpu, 3),
        "many_passes_cpu_s": round(many_cpu, 3),
        "one_pass_wall_s": round(one_wall, 3),
        "many_passes_wall_s": round(many_wall, 3),
        "ratio_cpu": round(many_cpu / one_cpu, 2),
        "ratio_wall": round(many_wall / one_wall, 2),
    }


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny", help="tiny, a builtin, a hub name or a folder")
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as scratch:
        tiny = arguments.model == "tiny"
        folder = tiny_model(Path(scratch)) if tiny else model_folder(parse_model(arguments.model))
        model = LocalModel(folder, name=arguments.model, device="cpu")
        figures = measure(model, count=arguments.prompts, samples=arguments.samples)
    width = max(map(len, figures))
    print("\n".join(f"{name:{width}}  {value}" for name, value in figures.items()))
    print(json.dumps(figures))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
