"""How a speech and a response become a reward model's tokens: the same for training, scoring and serving."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from strop.errors import UserError
from strop.models.render import encode_examples
from strop.models.rewards.protocol import Item
from strop.records.rows import Prompt

Form = Literal["chat", "plain", "pair"]


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
    if form == "pair":
        speeches, responses = ([spoken(prompt) for prompt, _ in items], [response for _, response in items])
        return [list(each) for each in tokenizer(speeches, responses)["input_ids"]] if items else []
    pieces = encode_examples(tokenizer, list(items), chat="on" if form == "chat" else "auto")
    return [prompt + response for prompt, response in pieces]


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
