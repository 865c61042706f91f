"""A tiny random Llama and its word-level tokenizer, made in a moment, without a download."""

from __future__ import annotations

from typing import Any

WORDS = (
    *("Question", "Answer", "apples", "books", "has", "how", "many", "and", "stop", "go", "ti", "me"),
    *map(str, range(100)),
)
SIGNS = (":", ".", "?", "####", "+", "=", "#")
WORD = r" ?[A-Za-z]+| ?\d+|\n| ?#+| ?[^\sA-Za-z\d#]"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message.role + ':' + message.content + '<eos>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)


def build_tokenizer(*, chat: bool = False) -> Any:
    """Words, numbers and signs with and without a leading space; decoding is concatenation."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = [*WORDS, *SIGNS]
    tokens = ["<pad>", "<eos>", "<unk>", "\n", *pieces, *(f" {piece}" for piece in pieces)]
    tokenizer = Tokenizer(models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )
    if chat:
        wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def build_model(tokenizer: Any, *, width: int = 32, layers: int = 2, seed: int = 0) -> Any:
    """Random weights, large enough that every next token depends on the whole prompt."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.3,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)
