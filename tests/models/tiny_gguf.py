"""Tiny random models with byte-level tokenizers that are trained in a moment: what GGUF files can be made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from strop.models.gguf_vocabulary import LLAMA3_REGEX, QWEN2_REGEX

Cut = Literal["gpt-2", "smollm", "llama-bpe", "qwen2"]

TEXT = """
I can't sleep since my father died, and I've been counting: 1, 2, 3, 12, 345, 2024. What's the point of 17 sheep?
You'd like to rest; they'll say "it's fine". Caf\u00e9, na\u00efve, \u4f60\u597d, \u043c\u0438\u0440, \U0001f600.
    Two  spaces   inside, a\ttab, and lines.

How does the end of the day feel when you are alone? It feels like rain on a roof that I do not own.
"""
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LLAMA3_POSITIONS = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
"""An old context that is short enough for the prompts of a test to leave it."""


def byte_tokenizer(cut: Cut, *, start: bool = False) -> Any:
    """Return a byte-level tokenizer with a few hundred merges; with `start`, it puts a start token before each text."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    def split(pattern: str) -> list[Any]:
        whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return [pre_tokenizers.Split(Regex(pattern), behavior="isolated"), whole]

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = Tokenizer(models.BPE(ignore_merges=cut == "llama-bpe"))
    tokenizer.pre_tokenizer = {
        "gpt-2": byte_level,
        "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level]),
        "llama-bpe": pre_tokenizers.Sequence(split(LLAMA3_REGEX)),
        "qwen2": pre_tokenizers.Sequence(split(QWEN2_REGEX)),
    }[cut]
    if cut == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=480, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT.splitlines(keepends=True), trainer)
    template = CHAT_TEMPLATE
    if start:
        template = "{{ bos_token }}" + CHAT_TEMPLATE
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{SPECIAL[0]} $A", pair=f"{SPECIAL[0]} $A {SPECIAL[0]} $B", special_tokens=[(SPECIAL[0], 0)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=SPECIAL[0],
        eos_token=SPECIAL[2],
        pad_token=SPECIAL[2],
        chat_template=template,
        clean_up_tokenization_spaces=False,
    )


def write_model(
    folder: Path, cut: Cut, *, start: bool = False, shards: str | None = None, unused: int = 0, **changes: Any
) -> Path:
    """Write a random model with grouped queries, and its tokenizer.

    Args:
        folder: Where.
        cut: How its tokenizer cuts text; ``qwen2`` makes a Qwen2, all others a Llama.
        start: See `byte_tokenizer`.
        shards: Largest size of a weight file, as ``20KB``; None writes one file.
        unused: Rows of the embedding that no token has.
        changes: Settings of the configuration.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    tokenizer = byte_tokenizer(cut, start=start)
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer) + unused,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "initializer_range": 0.1,
        "tie_word_embeddings": False,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **changes,
    }
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model: Any = (
        Qwen2ForCausalLM(Qwen2Config(**settings)) if cut == "qwen2" else LlamaForCausalLM(LlamaConfig(**settings))
    )
    silent = [number for number in range(len(tokenizer)) if not tokenizer.decode([number]).isascii()]
    with torch.no_grad():
        # Parts of characters and special tokens are never the likeliest: a server does not tell them as text.
        model.get_output_embeddings().weight[[*range(len(SPECIAL)), *silent]] = 0
        for name, parameter in model.named_parameters():
            if name.endswith(".bias"):
                parameter.normal_(std=0.5)
    model.save_pretrained(folder, **({} if shards is None else {"max_shard_size": shards}))
    tokenizer.save_pretrained(folder)
    return folder


def change_json(file: Path, **changes: Any) -> None:
    """Set keys of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
