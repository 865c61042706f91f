"""From speech and response to tokens: one text, one end; offline and served texts are the same tokens."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from strop.errors import UserError
from strop.models.rewards.reading import (
    canonical_text,
    distinct_pad,
    encode_items,
    encode_texts,
    encode_untrimmed,
    render_text,
    reward_tokenizer,
    segments,
)
from strop.records.rows import Message
from tiny_llama import build_tokenizer

ITEM = ("how many apples", "go and stop")


@pytest.fixture(scope="module")
def chat() -> Any:
    return build_tokenizer(chat=True)


@pytest.fixture(scope="module")
def encoder(tiny_encoder: Path) -> Any:
    return reward_tokenizer(tiny_encoder)


def test_a_template_that_writes_a_line_break_behind_its_end(chat: Any) -> None:
    """The tiny template ends turns with an end and a line break: OpenRLHF's strip and append would give two ends."""
    rendered = chat.apply_chat_template(
        [{"role": "user", "content": ITEM[0]}, {"role": "assistant", "content": ITEM[1]}], tokenize=False
    )
    assert rendered.endswith("<eos>\n")
    text = render_text(chat, ITEM, form="chat")
    assert text == "user:how many apples<eos>\nassistant:go and stop<eos>"
    assert canonical_text(chat, rendered) == text
    (ids,) = encode_untrimmed(chat, [ITEM], form="chat")
    assert ids == encode_texts(chat, [text])[0]
    assert (ids[-1], ids[-2] == chat.eos_token_id) == (chat.eos_token_id, False)


@given(
    st.lists(st.sampled_from(["<eos>", "<pad>", "\n", " "]), max_size=4),
    st.lists(st.sampled_from(["<eos>", "<pad>"]), max_size=3),
)
def test_marks_around_a_text_change_nothing(behind: list[str], front: list[str]) -> None:
    tokenizer = build_tokenizer(chat=True)
    text = render_text(tokenizer, ITEM, form="chat")
    assert canonical_text(tokenizer, "".join(front) + text + "".join(behind)) == text


def test_plain_text_starts_as_the_tokenizer_starts_it() -> None:
    """The tokenizer puts ``<s>`` in front of every text: once, and once only."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(["<pad>", "<s>", "</s>", "w1", "w2", "w3"])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    assert encode_untrimmed(tokenizer, [("w1 w2", "w3")], form="plain") == [[1, 3, 4, 5, 2]]


def test_an_encoder_reads_two_segments(encoder: Any) -> None:
    """As transformers encodes a pair, with its two kinds of segment."""
    prompt, response = "i feel sad .", "what do you need ?"
    expected = encoder(prompt, response)
    (ids,) = encode_untrimmed(encoder, [(prompt, response)], form="pair")
    assert ids == expected["input_ids"]
    import torch

    kinds = segments(torch.tensor([ids + [encoder.pad_token_id] * 2]), encoder.sep_token_id)
    assert kinds[0, : len(ids)].tolist() == expected["token_type_ids"]


def test_an_encoder_reads_a_conversation_without_roles(encoder: Any) -> None:
    turns = (Message("system", "be good"), Message("user", "i am sad"), Message("assistant", "why ?"))
    assert render_text(encoder, (turns, "talk ."), form="pair") == "[CLS] i am sad\nwhy ? [SEP] talk .[SEP]"


def test_too_long_names_the_response_and_cuts_nothing(chat: Any) -> None:
    with pytest.raises(UserError, match="too long") as caught:
        encode_items(chat, [ITEM, ("how", "go " * 40)], form="chat", max_length=32)
    assert "go go" in str(caught.value)


def test_padding_is_no_end(chat: Any) -> None:
    shared = build_tokenizer(chat=True)
    shared.pad_token = "<eos>"
    assert distinct_pad(shared) == shared.unk_token_id
    assert distinct_pad(chat) == chat.pad_token_id


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="no end token"):
        reward_tokenizer(tmp_path)
