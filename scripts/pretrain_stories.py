"""Pre-train the story bases that strop ships: a strong one with a latent skill and a small weak one.

    python scripts/pretrain_stories.py strong --seed 0 --out DIR     about 30 minutes on one core
    python scripts/pretrain_stories.py weak   --seed 0 --out DIR     about 1 minute on one core

Writes a Hugging Face model folder (safetensors, tokenizer) and `training_log.json`: arguments, versions, the loss
curve and the loss on 256 held-out documents, which the test of the shipped files recomputes.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from strop.methods.weak_to_strong.stories import AUTHOR_SHARES, draw_story, pretraining_documents, solve, vocabulary

Document = list[tuple[str, str]]
WORD = r" ?[A-Za-z]+| ?\d+|\n| ?#+| ?[^\sA-Za-z\d#]"
HELD_OUT_SEED = 20_240_713


@dataclass(frozen=True)
class Size:
    """Shape and schedule of one base."""

    width: int
    layers: int
    heads: int
    feed_forward: int
    steps: int
    documents: int
    learning_rate: float
    stories: int
    careful_only: bool


SIZES = {
    "strong": Size(192, 4, 6, 512, 4000, 12, 2e-3, 4, careful_only=False),
    "weak": Size(64, 2, 4, 172, 600, 32, 2e-3, 1, careful_only=True),
}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Word-level and lossless: words and numbers carry their leading space, decoding is concatenation."""
    tokens = ["<pad>", "<eos>", "<unk>", *vocabulary()]
    tokenizer = Tokenizer(models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        padding_side="left",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def documents(size: Size, random: Random) -> Iterator[Document]:
    """Endless documents of this base's corpus: several authors for the strong one, careful ones for the weak one."""
    if not size.careful_only:
        yield from pretraining_documents(random, stories=size.stories)
    while True:
        story = draw_story(random, steps=random.randint(1, 2))
        yield [(story.question, solve(story))]


def encode(tokenizer: PreTrainedTokenizerFast, document: Document) -> tuple[list[int], list[int]]:
    """Token ids and labels of one document; only solutions (and the blank line or eos after them) carry loss."""
    ids: list[int] = []
    labels: list[int] = []
    for index, (question, solution) in enumerate(document):
        prompt = tokenizer(f"Question: {question}\nAnswer:").input_ids
        last = index == len(document) - 1
        reply = tokenizer(f" {solution}" if last else f" {solution}\n\n").input_ids
        if last:
            reply = [*reply, tokenizer.eos_token_id]
        ids += prompt + reply
        labels += [-100] * len(prompt) + reply
    return ids, labels


def batch(tokenizer: PreTrainedTokenizerFast, source: Iterator[Document], count: int) -> dict[str, torch.Tensor]:
    """Pad `count` documents on the right; causal attention never looks at the padding, so no mask is needed."""
    rows = [encode(tokenizer, next(source)) for _ in range(count)]
    longest = max(len(ids) for ids, _ in rows)
    pad = tokenizer.pad_token_id
    return {
        "input_ids": torch.tensor([ids + [pad] * (longest - len(ids)) for ids, _ in rows]),
        "labels": torch.tensor([labels + [-100] * (longest - len(labels)) for _, labels in rows]),
    }


def held_out_loss(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, size: Size) -> float:
    """Mean loss per supervised token over 256 documents that no training seed draws."""
    source = documents(size, Random(HELD_OUT_SEED))
    model.eval()
    total, tokens = 0.0, 0
    with torch.no_grad():
        for _ in range(16):
            rows = batch(tokenizer, source, 16)
            count = int((rows["labels"][:, 1:] != -100).sum())
            total += float(model(**rows, use_cache=False).loss) * count
            tokens += count
    model.train()
    return total / tokens


def pretrain(name: str, *, seed: int, out: Path, steps: int | None, bf16: bool) -> None:
    """Train one base and save it with its log."""
    size = SIZES[name]
    steps = steps or size.steps
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.width,
        intermediate_size=size.feed_forward,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=size.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    warm_up = min(100, steps // 10)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm_up, max(0.0, (steps - step) / (steps - warm_up)))
    )
    source = documents(size, Random(f"pretraining-{name}-{seed}"))
    curve: list[dict[str, float]] = []
    started, running = time.time(), 0.0
    for step in range(1, steps + 1):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = model(**batch(tokenizer, source, size.documents), use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad(set_to_none=True)
        running += float(loss.detach())
        if step % 100 == 0 or step == steps:
            curve.append({"step": step, "loss": round(running / 100, 5), "seconds": round(time.time() - started, 1)})
            print(name, seed, curve[-1], flush=True)
            running = 0.0
            if step % 500 == 0:
                model.save_pretrained(out)
                tokenizer.save_pretrained(out)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    log = {
        "base": name,
        "seed": seed,
        "size": asdict(size) | {"steps": steps, "parameters": model.num_parameters()},
        "authors": AUTHOR_SHARES,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "bf16_autocast": bf16,
        "held_out_loss": held_out_loss(model, tokenizer, size),
        "curve": curve,
    }
    (out / "training_log.json").write_text(json.dumps(log, indent=1) + "\n")


def main() -> None:
    """Read the command line and pre-train one base."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", choices=sorted(SIZES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, help="fewer steps than the default, to try things out")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true", help="bf16 autocast: faster where the CPU has avx512_bf16")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    pretrain(arguments.base, seed=arguments.seed, out=arguments.out, steps=arguments.steps, bf16=arguments.bf16)


if __name__ == "__main__":
    main()
