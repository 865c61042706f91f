"""Forms of training sets that other trainers read."""

from __future__ import annotations

import pytest

from strop.errors import UserError
from strop.records import Message, PreferencePair, Prompt, SupervisedExample
from strop.records.training_forms import columns_pair, llama_factory_registry, trl_example, trl_pair

EXAMPLE = SupervisedExample(3, "Question: a?\nAnswer:", "b")
PAIR = PreferencePair(3, "Question: a?\nAnswer:", "good", "bad")
CHAT: Prompt = (Message("user", "a?"),)


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
