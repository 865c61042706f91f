"""How a speech and a response become a reward model's tokens: one text, the same for training, scoring and serving.

A text ends with exactly one end token, from which the score is read. Whatever a template or a client leaves behind the
response (an end of turn, a line break, padding) is taken away first: the published server (OpenRLHF's) takes away end
and padding tokens only, so that a template that writes a line break behind its end of turn gets two ends from it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from strop.errors import UserError
from strop.models.render import render_example
from strop.models.rewards.protocol import Item
from strop.records.rows import Prompt

Form = Literal["chat", "plain", "pair"]


def reward_tokenizer(folder: Path) -> Any:
    """Return the tokenizer of a model folder with an end token, and a padding token that is none.

    Raises:
        UserError: It has no end token and no separator, or nothing else to pad with.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.eos_token is None and tokenizer.sep_token is not None:
        # An encoder's text ends with its separator.
        tokenizer.eos_token = tokenizer.sep_token
    if tokenizer.eos_token is None:
        raise UserError(
            "the tokenizer has no end token",
            value=str(folder),
            why="a reward is read from it",
            fix="set eos_token in the folder's tokenizer_config.json",
        )
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(distinct_pad(tokenizer))
    return tokenizer


def form_of(tokenizer: Any, *, encoder: bool) -> Form:
    """Return how a model reads: an encoder a pair of segments, others by their chat template where they have one."""
    if encoder:
        return "pair"
    return "chat" if getattr(tokenizer, "chat_template", None) else "plain"


def encode_items(tokenizer: Any, items: Sequence[Item], *, form: Form, max_length: int) -> list[list[int]]:
    """Return the token ids of each item, none longer than the window.

    Args:
        tokenizer: The reward model's.
        items: Prompts and responses.
        form: See `RewardFacts.form`.
        max_length: The window in tokens.

    Raises:
        UserError: An item is longer than the window. Cutting it would cut the end token that the score is read from.
    """
    ids = encode_untrimmed(tokenizer, items, form=form)
    for (_, response), tokens in zip(items, ids, strict=True):
        check_window(tokens, response, max_length)
    return ids


def encode_untrimmed(tokenizer: Any, items: Sequence[Item], *, form: Form) -> list[list[int]]:
    """Return the token ids of each item, however long."""
    return encode_texts(tokenizer, [render_text(tokenizer, item, form=form) for item in items])


def render_text(tokenizer: Any, item: Item, *, form: Form) -> str:
    """Return an item as the text that the model reads, one end token at its end.

    Args:
        tokenizer: The reward model's.
        item: Prompt and response.
        form: See `RewardFacts.form`.

    Raises:
        UserError: See `strop.models.render.render_example`.
    """
    prompt, response = item
    if form == "pair":
        text = f"{tokenizer.cls_token} {spoken(prompt)} {tokenizer.sep_token} {response}"
    else:
        text = "".join(render_example(tokenizer, prompt, response, chat="on" if form == "chat" else "auto"))
        text = _start(tokenizer) + text if form == "plain" else text
    return canonical_text(tokenizer, text)


def _start(tokenizer: Any) -> str:
    """Return the start token that the tokenizer puts in front of a plain text; empty where it puts none."""
    start = tokenizer.bos_token_id
    added = tokenizer("x")["input_ids"]
    return str(tokenizer.bos_token) if start is not None and added[:1] == [start] else ""


def canonical_text(tokenizer: Any, text: str) -> str:
    """Return a rendered text with one end token at its end and none, nor padding, in front.

    White space behind the response goes too: it hides the end tokens of templates that write it.
    """
    end, pad = str(tokenizer.eos_token), tokenizer.pad_token
    marks = "|".join(re.escape(mark) for mark in {end, pad} if mark)
    text = re.sub(rf"^(?:{marks})+", "", text)
    return re.sub(rf"(?:\s|{marks})+$", "", text) + end


def encode_texts(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of rendered texts, however long; special tokens are those of the text."""
    if not texts:
        return []
    # Not verbose: how long a text may be is told where it is refused.
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return [list(ids) for ids in encoded]


def spoken(prompt: Prompt) -> str:
    """Return a prompt as one text: an encoder knows no roles."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(message.content for message in prompt if message.role != "system")


def check_window(tokens: Sequence[int], response: str, max_length: int) -> None:
    """Raise a `UserError` if a text is longer than the window."""
    if len(tokens) > max_length:
        raise UserError(
            f"a response is too long for the reward model: {len(tokens)} tokens with its prompt",
            value=response[:60],
            why=f"its window is {max_length} tokens, and a cut text has no end to read the score from",
            fix="shorten the response (max_tokens), or train the reward model with a larger max_length",
        )


def knows_segments(config: Any) -> bool:
    """Say whether an encoder tells its two segments apart by token types; RoBERTa and DistilBERT do not."""
    return int(getattr(config, "type_vocab_size", 0) or 0) > 1


def segments(ids_bl: Any, separator: int) -> Any:
    """Return which of its two segments each token of an encoder's text belongs to, 0 or 1, ``(B, L)``.

    Args:
        ids_bl: Token ids, ``(B, L)``: start, prompt, separator, response, separator, padding.
        separator: Id of the separator.
    """
    ends_bl = (ids_bl == separator).long()
    return (ends_bl.cumsum(1) - ends_bl).clamp(max=1)


def distinct_pad(tokenizer: Any) -> int:
    """Return the id of a padding token that is no end token.

    transformers finds the token that a score is read from as the last one that is not padding. Where padding is the end
    token too, as in many tokenizers, the score would be read in front of the end.

    Raises:
        UserError: Every special token is an end or a start.
    """
    ends = {tokenizer.eos_token_id, tokenizer.bos_token_id}
    candidates = [tokenizer.pad_token_id, tokenizer.unk_token_id, *sorted(set(tokenizer.all_special_ids))]
    added = sorted(tokenizer.added_tokens_decoder)
    for candidate in (*candidates, *added):
        if candidate is not None and candidate not in ends:
            return int(candidate)
    raise UserError(
        "the tokenizer has no token to pad with but its end token",
        value=str(getattr(tokenizer, "name_or_path", "")),
        why="the score is read from the end token, which must differ from padding",
        fix="add a padding token to the tokenizer and to the model's vocabulary",
    )
