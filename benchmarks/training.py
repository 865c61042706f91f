"""Step time of `strop.training` beside plain TRL and a bare PyTorch loop: same model, same rows, interleaved repeats.

Usage: python benchmarks/training.py [--steps N] [--repeats N] [--json FILE]

The model is the size of the strong model of the weak-to-strong demo (Llama, hidden 192, 4 layers, 1.8M parameters),
random, so that no weights are needed. A step lasts from one optimiser step's end to the next, in processor time, which
other work on the machine changes less than wall time. The figure of a run is the median over its steps; contestants
alternate, and the ratio that counts is the median over rounds of strop / plain TRL (target: at most 1.03). Start and
end (loading, tokenising, checks, saving) are listed apart.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from strop.records.tables import read_table, write_table
from strop.training import Launcher, TrainingJob, TrainingSettings, train

WARM_UP = 5
TARGET = 1.03
BATCH, LEARNING_RATE, ROWS, SEED = 32, 3e-4, 640, 0
NUMBERS = [str(number) for number in range(361)]
WORDS = ["Question:", "Answer:", "Tom", "has", "things", ".", "buys", "loses", "+", "-", "*", "=", ";", "####"]


@dataclass(frozen=True)
class Timing:
    """One run: median processor seconds of a step, and those outside of the steps."""

    step_s: float
    other_s: float


def make_model(folder: Path) -> None:
    """Save a random Llama of the demo's strong size with a word-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(["<pad>", "<s>", "</s>", *WORDS, *NUMBERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    ).save_pretrained(folder)
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def make_rows(file: Path) -> None:
    """Write stories of about 40 tokens with solutions of about 20."""
    source = random.Random(SEED)

    def text(low: int, high: int) -> str:
        return " ".join(source.choice(WORDS + NUMBERS) for _ in range(source.randint(low, high)))

    write_table(file, [{"id": n, "prompt": text(30, 50), "response": text(15, 25)} for n in range(ROWS)])


def intervals(ends: list[float], total: float) -> Timing:
    """Turn the times of the ends of steps into a run's figures."""
    steps = [later - earlier for earlier, later in pairwise(ends)]
    return Timing(median(steps[WARM_UP:]), total - sum(steps))


def run_strop(model: Path, rows: Path, folder: Path, steps: int) -> Timing:
    """Train by `strop.training.train`, checks, saving and all."""
    ends: list[float] = []
    settings = TrainingSettings(
        learning_rate=LEARNING_RATE, max_steps=steps, batch_size=BATCH, micro_batch_size=BATCH, max_length=256
    )
    job = TrainingJob(
        kind="sft",
        model=model,
        rows=rows,
        out=folder / "out",
        work=folder / "work",
        settings=settings,
        seed=SEED,
        device="cpu",
    )
    start = time.process_time()
    train(job, launcher=Launcher(mode="inline"), advance=lambda done, total: ends.append(time.process_time()))
    return intervals(ends, time.process_time() - start)


def run_trl(model: Path, rows: Path, folder: Path, steps: int) -> Timing:
    """Train by TRL's SFTTrainer as its documentation shows, with the same settings."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            ends.append(time.process_time())

    start = time.process_time()
    table = [{"prompt": row["prompt"], "completion": " " + row["response"]} for row in read_table(rows)]
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=SFTConfig(
            output_dir=str(folder),
            max_steps=steps,
            per_device_train_batch_size=BATCH,
            learning_rate=LEARNING_RATE,
            seed=SEED,
            data_seed=SEED,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=True,
            dataloader_pin_memory=False,
            report_to="none",
            logging_steps=1,
            save_strategy="no",
            disable_tqdm=True,
            max_length=256,
        ),
        train_dataset=Dataset.from_list(table),
        processing_class=AutoTokenizer.from_pretrained(model),
        callbacks=[Clock()],
    )
    with redirect_stdout(io.StringIO()):  # it prints a line a step
        trainer.train()
    trainer.save_model(str(folder))
    return intervals(ends, time.process_time() - start)


def run_bare(model: Path, rows: Path, folder: Path, steps: int) -> Timing:
    """Train by a loop of a dozen lines: the floor, without schedule, logging or checks."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    start = time.process_time()
    ends: list[float] = []
    tokenizer, llama = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model).train()
    examples = []
    for row in read_table(rows):
        prompt, response = tokenizer([row["prompt"], row["response"] + "</s>"])["input_ids"]
        examples.append({"input_ids": prompt + response, "labels": [-100] * len(prompt) + response})
    optimiser = torch.optim.AdamW(llama.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    collate, source = DataCollatorForLanguageModeling(pad_token_id=0), random.Random(SEED)
    for _ in range(steps):
        batch = collate(source.sample(examples, BATCH))
        llama(**batch, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(llama.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        ends.append(time.process_time())
    llama.save_pretrained(folder)
    return intervals(ends, time.process_time() - start)


CONTESTANTS: dict[str, Callable[[Path, Path, Path, int], Timing]] = {
    "strop": run_strop,
    "plain TRL": run_trl,
    "bare loop": run_bare,
}


def measure(steps: int, repeats: int) -> dict[str, list[Timing]]:
    """Run every contestant `repeats` times, in an order that turns by one each time."""
    timings: dict[str, list[Timing]] = {name: [] for name in CONTESTANTS}
    names = list(CONTESTANTS)
    with tempfile.TemporaryDirectory() as scratch:
        model, rows = Path(scratch) / "model", Path(scratch) / "rows.jsonl"
        make_model(model)
        make_rows(rows)
        for name in names:  # imports and caches are warm before the first figure
            CONTESTANTS[name](model, rows, Path(scratch) / f"warm-{name}", WARM_UP + 3)
        for repeat in range(repeats):
            turn = repeat % len(names)
            for name in names[turn:] + names[:turn]:
                folder = Path(scratch) / f"{name}-{repeat}"
                folder.mkdir()
                timings[name].append(CONTESTANTS[name](model, rows, folder, steps))
    return timings


def report(timings: dict[str, list[Timing]], steps: int) -> dict[str, Any]:
    """Return the figures: medians per contestant, and ratios within each repeat, which share its noise."""
    ratios = [ours.step_s / theirs.step_s for ours, theirs in zip(timings["strop"], timings["plain TRL"], strict=True)]
    return {
        "step_ms": {name: 1e3 * median(run.step_s for run in runs) for name, runs in timings.items()},
        "start_and_end_s": {name: median(run.other_s for run in runs) for name, runs in timings.items()},
        "strop_over_trl": {"median": median(ratios), "low": min(ratios), "high": max(ratios), "target": TARGET},
        "steps": steps,
        "repeats": len(ratios),
        "batch": BATCH,
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
    }


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    figures = report(measure(given.steps, given.repeats), given.steps)
    print(f"{'':12}{'step (ms)':>12}{'start + end (s)':>18}")
    for name, value in figures["step_ms"].items():
        print(f"{name:12}{value:12.2f}{figures['start_and_end_s'][name]:18.2f}")
    ratio = figures["strop_over_trl"]
    print(f"strop / plain TRL: {ratio['median']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f}), target {TARGET}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    sys.exit(0 if ratio["median"] <= TARGET else 1)


if __name__ == "__main__":
    main()
