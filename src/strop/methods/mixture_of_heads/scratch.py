"""Small models that never were dense: a vocabulary from the text, the same random weights for every arm."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from strop.heads.layout import HeadLayout, layout_for
from strop.methods.mixture_of_heads.config import FromScratch
from strop.methods.mixture_of_heads.stages import TRAIN
from strop.runs import Artifact, Stage, derive_seed
from strop.training.continuing import read_documents

END = "<|endoftext|>"
ROUTER_START = 0.02
"""Standard deviation of a router's first weights: all alike would send every token to the first heads."""
FFN_SHARE, MULTIPLE = 8 / 3, 16
"""Width of the MLP over the model's, as in Llama, rounded up to a multiple."""


def make_scratch(stage: Stage, text: Artifact, *, settings: FromScratch, seed: int) -> None:
    """Write a dense Llama with random weights and its tokenizer: the folder `model`.

    Args:
        stage: Where to write.
        text: Training documents, from which the vocabulary is made.
        settings: Sizes.
        seed: Of the weights.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = stage.folder / "model"
    tokenizer = byte_tokenizer((words for _, words in read_documents(text.path(TRAIN))), size=settings.vocabulary)
    wide = -(-round(settings.width * FFN_SHARE) // MULTIPLE) * MULTIPLE
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=wide,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=max(2048, settings.train.max_length),
        tie_word_embeddings=True,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "scratch", "weights"))
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def byte_tokenizer(texts: Iterable[str], *, size: int) -> Any:
    """Return a byte-level BPE tokenizer of at most `size` entries that is made from texts; any text can be written."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[END], initial_alphabet=sorted(alphabet), show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END, bos_token=END, pad_token=END)


def scratch_layout(settings: FromScratch, share: float) -> HeadLayout:
    """Return the layout of every layer at a share: the first heads shared, the others free.

    Raises:
        UserError: The share does not divide.
    """
    shared = tuple(range(settings.shared))
    return layout_for(settings.heads, settings.heads, active_share=share, shared=shared, choice="free")


def route_scratch(stage: Stage, dense: Artifact, *, settings: FromScratch, share: float, seed: int) -> None:
    """Write the same random weights with routed heads: the folder `model`."""
    from strop.heads.conversion import ROUTERS, convert
    from strop.heads.modeling import MoHSettings

    layout = scratch_layout(settings, share)
    made = MoHSettings(
        layers=(layout,) * settings.layers, router="learned", balance=settings.train.balance, backend="gathered"
    )
    out = stage.folder / "model"
    convert(dense.path("model"), made, out)
    start_routers(out / ROUTERS, seed=derive_seed(seed, "scratch", "routers"))


def start_routers(file: Path, *, seed: int) -> None:
    """Give the learned routers of a model small random weights, as the released vision code does."""
    import torch
    from safetensors.torch import load_file, save_file

    generator = torch.Generator().manual_seed(seed)
    weights = load_file(file)
    for name in sorted(weights):
        weights[name] = ROUTER_START * torch.randn(weights[name].shape, generator=generator, dtype=weights[name].dtype)
    save_file(weights, file, metadata={"format": "pt"})
