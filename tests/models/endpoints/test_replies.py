"""Replies read with care: exact values for what is whole, typed failures for everything else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.models.endpoints.replies import (
    Choice,
    MalformedReplyError,
    OverlongPromptError,
    Reply,
    ReplyError,
    UncountedReplyError,
    Usage,
    WithheldReplyError,
    read_log_probs,
    read_reply,
)
from strop.records.token_choices import TokenChoice

USAGE = {"prompt_tokens": 7, "completion_tokens": 3}


def chat_choice(text: Any = "fine", finish: Any = "stop", **more: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text}, "finish_reason": finish, **more}


def read(*choices: Any, usage: Any = USAGE, chat: bool = True) -> Reply:
    return read_reply(json.dumps({"choices": choices, "usage": usage}).encode(), chat=chat)


def test_a_whole_reply() -> None:
    cached = {**USAGE, "prompt_tokens_details": {"cached_tokens": 5}}
    reply = read(chat_choice("a", "length"), usage=cached)
    assert reply == Reply({0: Choice("a", "length", None)}, Usage(7, 3, 5))
    assert read({"text": "b", "finish_reason": "stop"}, chat=False).choices[0] == Choice("b", "stop", None)


def test_choices_stand_at_their_index_whatever_their_order() -> None:
    reply = read(chat_choice("b", index=1), chat_choice("a", index=0), chat_choice("again", index=1))
    assert {index: choice.text for index, choice in reply.choices.items() if isinstance(choice, Choice)} == {
        0: "a",
        1: "b",
    }


@pytest.mark.parametrize(
    ("cached", "read_as"),
    [(None, 0), ({}, 0), ({"cached_tokens": None}, 0), ({"cached_tokens": -1}, 0), ({"cached_tokens": 99}, 7)],
)
def test_cached_tokens_are_never_more_than_the_prompts(cached: Any, read_as: int) -> None:
    assert read(chat_choice(), usage={**USAGE, "prompt_tokens_details": cached}).usage.cached == read_as


@pytest.mark.parametrize(
    ("choice", "error"),
    [
        (chat_choice(None), MalformedReplyError),
        (chat_choice(5), MalformedReplyError),
        (chat_choice(["a"]), MalformedReplyError),
        (chat_choice("a", None), MalformedReplyError),
        (chat_choice("a", "tool_calls"), MalformedReplyError),
        (chat_choice("a", "content_filter"), WithheldReplyError),
        ({"message": {"content": None, "refusal": "no"}, "finish_reason": "stop"}, WithheldReplyError),
        ({"message": None, "finish_reason": "stop"}, MalformedReplyError),
        ({"text": "a", "finish_reason": "stop"}, MalformedReplyError),
        ("text", MalformedReplyError),
    ],
)
def test_a_choice_that_is_no_answer_is_an_error_beside_whole_ones(choice: Any, error: type[ReplyError]) -> None:
    reply = read(chat_choice("whole", index=0), choice)
    assert isinstance(reply.choices[0], Choice)
    assert type(reply.choices[1]) is error


@pytest.mark.parametrize(
    ("text", "tokens", "whole"), [("", 0, False), (" \n", 0, False), ("", 1, True), ("a", 0, True)]
)
def test_an_empty_text_is_an_answer_only_where_a_token_was_written(text: str, tokens: int, whole: bool) -> None:
    counted = {**USAGE, "completion_tokens": tokens}
    assert isinstance(read(chat_choice(text), usage=counted).choices[0], Choice) is whole
    if not whole:
        assert isinstance(read(chat_choice(text, "length"), usage=counted).choices[0], OverlongPromptError)


@pytest.mark.parametrize(
    "usage",
    [None, {}, {"prompt_tokens": 1}, {"prompt_tokens": "7", "completion_tokens": 3}, {**USAGE, "prompt_tokens": True}],
)
def test_a_reply_without_counts_is_refused(usage: Any) -> None:
    with pytest.raises(UncountedReplyError):
        read(chat_choice(), usage=usage)


def test_log_probs_of_both_forms() -> None:
    token = {
        "token": "a",
        "logprob": -0.5,
        "top_logprobs": [{"token": "b", "logprob": -1}, {"token": "a", "logprob": -0.5}],
    }
    expected = (TokenChoice("a", -0.5, (("a", -0.5), ("b", -1.0))),)
    assert read_log_probs({"content": [token]}, chat=True) == expected
    lists = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"b": -1, "a": -0.5}]}
    assert read_log_probs(lists, chat=False) == expected
    assert read_log_probs({"content": [token]}, chat=False) == expected


@pytest.mark.parametrize(
    "given",
    [None, [], {}, {"content": None}, {"content": [{}]}, {"tokens": ["a"], "token_logprobs": [], "top_logprobs": []}],
)
@pytest.mark.parametrize("chat", [True, False])
def test_log_probs_that_cannot_be_read_are_none(given: Any, chat: bool) -> None:
    assert read_log_probs(given, chat=chat) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["choices", "usage", "message", "content", "text", "finish_reason", "index", "logprobs", "stop"]
)


@given(
    st.binary(max_size=200)
    | st.recursive(JSON, lambda inner: st.dictionaries(FIELDS, inner | st.lists(inner))).map(
        lambda value: json.dumps(value).encode()
    ),
    st.booleans(),
)
def test_nothing_but_a_reply_or_a_typed_failure(body: bytes, chat: bool) -> None:
    try:
        reply = read_reply(body, chat=chat)
    except ReplyError:
        return
    assert all(isinstance(choice, (Choice, ReplyError)) for choice in reply.choices.values())


@given(st.data())
def test_a_reply_that_is_damaged_anywhere_never_reads_as_another_text(data: st.DataObject) -> None:
    """Cut off at any byte it fails."""
    whole = json.dumps({"choices": [chat_choice("the answer", index=0)], "usage": USAGE}).encode()
    end = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ReplyError):
        read_reply(whole[:end], chat=True)
