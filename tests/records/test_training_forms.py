"""Forms of training sets that other trainers read."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.errors import UserError
from strop.records import Message, PreferencePair, Prompt, SupervisedExample
from strop.records.tables import read_table, write_table
from strop.records.training_forms import (
    CHAT_FORMS,
    TrainerForm,
    columns_pair,
    ends_with_user,
    has_chat_roles,
    llama_factory_chat,
    llama_factory_entry,
    llama_factory_registry,
    openai_chat,
    trl_chat,
    trl_example,
    trl_pair,
    turns_alternate,
)

EXAMPLE = SupervisedExample(3, "Question: a?\nAnswer:", "b")
PAIR = PreferencePair(3, "Question: a?\nAnswer:", "good", "bad")
CHAT: Prompt = (Message("user", "a?"),)
EXPERT: Prompt = (Message("system", "You are an expert."), *CHAT)
TURNS = [{"role": "system", "content": "You are an expert."}, {"role": "user", "content": "a?"}]
# Halves of surrogate pairs are no text: UTF-8 cannot hold them.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(
    ["", "\u2028", "\x00", "\ufeff", "<|im_end|>", "2026-01-01", '{"role": "user"}', "\r\n", "\u202e", "NaN"]
)


def test_trl_forms() -> None:
    assert trl_example(EXAMPLE) == {"prompt": EXAMPLE.prompt, "completion": " b"}
    assert trl_example(EXAMPLE, conversational=True) == {
        "prompt": [{"role": "user", "content": EXAMPLE.prompt}],
        "completion": [{"role": "assistant", "content": "b"}],
    }
    assert trl_pair(PAIR) == {"prompt": PAIR.prompt, "chosen": " good", "rejected": " bad"}
    chat = trl_pair(PreferencePair(3, CHAT, "good", "bad"), conversational=True)
    assert chat == {
        "prompt": [{"role": "user", "content": "a?"}],
        "chosen": [{"role": "assistant", "content": "good"}],
        "rejected": [{"role": "assistant", "content": "bad"}],
    }


def test_registry_names_both_columns() -> None:
    registry = llama_factory_registry(["hybrid.json"], ["pairs_chosen_rejected.json"])
    assert registry["hybrid"] == {"file_name": "hybrid.json", "columns": {"prompt": "content", "response": "output"}}
    assert registry["pairs_chosen_rejected"]["ranking"] is True
    assert registry["pairs_chosen_rejected"]["columns"]["rejected"] == "rejected"


def test_a_conversation_does_not_fit_columns() -> None:
    with pytest.raises(UserError, match="plain prompts"):
        columns_pair(PreferencePair(3, CHAT, "good", "bad"))


def said(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def test_conversations_keep_their_system_message_in_every_form() -> None:
    example, pair = SupervisedExample("c#0/diagnosis", EXPERT, "b"), PreferencePair("c#0", EXPERT, "good", "bad")
    assert trl_chat(example) == {"prompt": TURNS, "completion": [said("b")]}
    assert trl_chat(pair) == {"prompt": TURNS, "chosen": [said("good")], "rejected": [said("bad")]}
    assert llama_factory_chat(example) == openai_chat(example) == {"messages": [*TURNS, said("b")]}
    assert llama_factory_chat(pair) == {"messages": TURNS, "chosen": said("good"), "rejected": said("bad")}
    assert openai_chat(pair) == {
        "input": {"messages": TURNS},
        "preferred_output": [said("good")],
        "non_preferred_output": [said("bad")],
    }


@pytest.mark.parametrize("form", CHAT_FORMS, ids=lambda form: str(form.name))
def test_a_plain_prompt_is_a_user_message_in_every_form(form: TrainerForm) -> None:
    for plain in (EXAMPLE, PAIR):
        chat = replace(plain, prompt=(Message("user", str(plain.prompt)),))
        assert form.takes(plain.prompt)
        assert form.row(plain) == form.row(chat)


def test_entries_of_llama_factory() -> None:
    tags = {
        "role_tag": "role",
        "content_tag": "content",
        "system_tag": "system",
        "user_tag": "user",
        "assistant_tag": "assistant",
    }
    assert llama_factory_entry("examples.json", ranking=False) == {
        "file_name": "examples.json",
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": tags,
    }
    assert llama_factory_entry("plans.json", ranking=True) == {
        "file_name": "plans.json",
        "formatting": "sharegpt",
        "ranking": True,
        "columns": {"messages": "messages", "chosen": "chosen", "rejected": "rejected"},
        "tags": tags,
    }


@pytest.mark.parametrize(
    ("roles", "trl", "llama_factory", "openai"),
    [
        ("u", True, True, True),
        ("su", True, True, True),
        ("uau", True, True, True),
        ("suau", True, True, True),
        ("s", False, False, True),
        ("sua", False, False, True),
        ("uu", True, False, True),
        ("au", True, False, True),
        ("ssu", True, False, True),
        ("usu", True, False, True),
        ("tu", True, False, False),
        ("ut", False, False, False),
    ],
)
def test_what_each_trainer_takes(roles: str, trl: bool, llama_factory: bool, openai: bool) -> None:
    """By first letters: system, user, assistant, tool."""
    names = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    prompt = tuple(Message(names[role], "x") for role in roles)
    assert (ends_with_user(prompt), turns_alternate(prompt), has_chat_roles(prompt)) == (trl, llama_factory, openai)


@given(st.lists(st.sampled_from(["system", "user", "assistant", "tool"]), min_size=1, max_size=7))
def test_what_llama_factory_takes_the_others_take(roles: list[str]) -> None:
    """Alternation against its definition: the roles spell an optional s, then (ua)* and a last u."""
    prompt = tuple(Message(role, "x") for role in roles)
    letters = "".join(role[0] for role in roles)
    assert turns_alternate(prompt) == bool(re.fullmatch("s?(ua)*u", letters))
    assert not turns_alternate(prompt) or (ends_with_user(prompt) and has_chat_roles(prompt))


@settings(max_examples=40)
@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=4))
def test_odd_texts_come_back_from_every_file(texts: list[tuple[str, str, str]]) -> None:
    """Written and read as JSONL or as a JSON array, every text is what it was, and a row is one line of JSONL."""
    examples = [
        SupervisedExample(at, (Message("system", a), Message("user", b)), c) for at, (a, b, c) in enumerate(texts)
    ]
    pairs = [PreferencePair(at, ((Message("user", a)),), b, c) for at, (a, b, c) in enumerate(texts)]
    with TemporaryDirectory() as folder:
        for form in CHAT_FORMS:
            for rows in (examples, pairs):
                file = Path(folder) / f"rows{form.suffix}"
                wanted = [form.row(row) for row in rows]
                assert write_table(file, wanted) == len(texts)
                assert read_table(file) == wanted
                if form.suffix == ".jsonl":
                    lines = file.read_bytes().split(b"\n")
                    assert [json.loads(line) for line in lines[:-1]] == wanted
