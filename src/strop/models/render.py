r"""How a prompt becomes text and tokens: the one place for training, generation, scoring and serving.

Plain prompts and their responses are joined by one space and ended by the end-of-sequence token::

    Question: 2 + 2?\nAnswer:| 4<eos>

Conversations use the tokenizer's own chat template, and the response ends with the template's own end-of-turn mark.

A beginning-of-sequence token is written once: by the tokenizer for plain prompts (`add_special_tokens=True`), by the
template for conversations (`add_special_tokens=False`), as servers do it. `encode_prompts` and `encode_examples` hold
that rule, so that nobody else has to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from strop.errors import UserError
from strop.records.rows import Message, Prompt, prompt_to_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Chat = Literal["auto", "on", "off"]
JOINT = " "
"""What stands between a plain prompt and its response."""


def render_prompt(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, *, chat: Chat = "auto") -> str:
    """Return the text that the model continues.

    Args:
        tokenizer: The model's tokenizer.
        prompt: Text, or messages.
        chat: ``auto`` leaves text as it is and gives messages to the chat template, ``on`` makes text a user message,
            ``off`` refuses messages.

    Raises:
        UserError: Messages, but the tokenizer has no chat template or `chat` is ``off``.
    """
    messages = as_messages(prompt, chat=chat)
    if messages is None:
        assert isinstance(prompt, str)
        return prompt
    return _apply_template(tokenizer, messages, add_generation_prompt=True)


def render_example(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, response: str, *, chat: Chat = "auto"
) -> tuple[str, str]:
    """Return ``(prompt text, completion text)`` of a training example; the completion ends with the end of turn.

    The prompt text is `render_prompt`'s.

    Raises:
        UserError: As `render_prompt`; or the tokenizer has no end-of-sequence token, or the template does not write
            the response behind the prompt that it writes for generation.
    """
    rendered = render_prompt(tokenizer, prompt, chat=chat)
    messages = as_messages(prompt, chat=chat)
    if messages is None:
        return rendered, JOINT + response + _end_of_sequence(tokenizer)
    whole = _apply_template(tokenizer, (*messages, Message("assistant", response)), add_generation_prompt=False)
    if not whole.startswith(rendered):
        raise UserError(
            "the chat template does not write a response behind its own generation prompt",
            why="training on it would teach a text that generation never continues",
            fix="give the tokenizer a template that does, or set chat: off and plain prompts",
        )
    completion = whole[len(rendered) :].rstrip()
    has_mark = not completion.endswith(response.rstrip()) or not response.strip()
    return rendered, completion if has_mark and completion else completion + _end_of_sequence(tokenizer)


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], *, chat: Chat = "auto"
) -> list[list[int]]:
    """Return the token ids that the model continues: at most one beginning of sequence, and no end of sequence."""
    texts = [render_prompt(tokenizer, prompt, chat=chat) for prompt in prompts]
    plain = [as_messages(prompt, chat=chat) is None for prompt in prompts]
    return [
        _left_open(tokenizer, text, ids)
        for text, ids in zip(texts, _encode(tokenizer, texts, special=plain), strict=True)
    ]


def encode_examples(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[tuple[Prompt, str]], *, chat: Chat = "auto"
) -> list[tuple[list[int], list[int]]]:
    """Return the token ids of the prompt and of the completion of each ``(prompt, response)``.

    The prompt's tokens are those of `encode_prompts`: generation starts behind them. Where the text in one piece has
    the same tokens in front, its others are the completion; where a token would reach across the border, which
    generation cannot write, the completion is tokenized alone.
    """
    texts = [render_example(tokenizer, prompt, response, chat=chat) for prompt, response in turns]
    plain = [as_messages(prompt, chat=chat) is None for prompt, _ in turns]
    starts = encode_prompts(tokenizer, [prompt for prompt, _ in turns], chat=chat)
    wholes = _encode(tokenizer, [prompt + completion for prompt, completion in texts], special=plain)
    examples: list[tuple[list[int], list[int]]] = []
    for (_, completion), start, whole in zip(texts, starts, wholes, strict=True):
        if whole[: len(start)] == start:
            examples.append((start, _closed_once(tokenizer, whole[len(start) :])))
        else:
            examples.append((start, _encode(tokenizer, [completion], special=[False])[0]))
    return examples


def read_completion(text: str, prompt: Prompt, *, chat: Chat = "auto") -> str:
    """Return the response in a model's completion: for plain prompts, the text behind the one joining space."""
    return text.removeprefix(JOINT) if as_messages(prompt, chat=chat) is None else text


def as_messages(prompt: Prompt, *, chat: Chat) -> tuple[Message, ...] | None:
    """Return the conversation to render, or None where `prompt` is to be continued as plain text.

    Raises:
        UserError: Messages, but `chat` is ``off``.
    """
    if isinstance(prompt, str):
        return (Message("user", prompt),) if chat == "on" else None
    if chat == "off":
        raise UserError(
            "a prompt of messages for a model with chat: off", fix="set chat: auto, or give prompts as text"
        )
    return prompt


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, special: Sequence[bool]) -> list[list[int]]:
    """Tokenize in at most two batched calls, one with and one without the tokenizer's own special tokens."""
    ids: list[list[int]] = [[] for _ in texts]
    for add in set(special):
        places = [place for place, value in enumerate(special) if value is add]
        encoded = tokenizer([texts[place] for place in places], add_special_tokens=add)["input_ids"]
        for place, tokens in zip(places, encoded, strict=True):
            ids[place] = list(tokens)
    return ids


def _left_open(tokenizer: PreTrainedTokenizerBase, text: str, ids: list[int]) -> list[int]:
    """Drop the end of sequence that some tokenizers put behind every text."""
    closed = bool(ids) and ids[-1] == tokenizer.eos_token_id and not text.endswith(str(tokenizer.eos_token))
    return ids[:-1] if closed else ids


def _closed_once(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    """Drop the tokenizer's own end of sequence behind the one that is in the text."""
    return ids[:-1] if ids[-2:] == [tokenizer.eos_token_id] * 2 else ids


def _apply_template(
    tokenizer: PreTrainedTokenizerBase, messages: tuple[Message, ...], *, add_generation_prompt: bool
) -> str:
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(
            "a prompt of messages for a model without a chat template",
            value=str(getattr(tokenizer, "name_or_path", "")),
            fix="use an instruction-tuned model, or give prompts as text",
        )
    turns: Any = prompt_to_json(messages)
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=add_generation_prompt))


def _end_of_sequence(tokenizer: PreTrainedTokenizerBase) -> str:
    if not tokenizer.eos_token:
        raise UserError(
            "a tokenizer without an end-of-sequence token",
            value=str(getattr(tokenizer, "name_or_path", "")),
            why="a model trained without one never learns to stop",
            fix="set tokenizer.eos_token and save the tokenizer",
        )
    return str(tokenizer.eos_token)
