"""Training sets in the forms that other trainers read: TRL, LLaMA-Factory, OpenRLHF, OpenAI (``docs/formats.md``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strop.errors import UserError
from strop.records.rows import PreferencePair, Prompt, SupervisedExample

Learned = SupervisedExample | PreferencePair
"""A row that a training learns from."""
CHAT_ROLES = ("system", "user", "assistant")


def plain_prompt(prompt: Prompt) -> str:
    """Return a prompt that is text.

    Raises:
        UserError: It is a conversation.
    """
    if isinstance(prompt, str):
        return prompt
    raise UserError("this format holds plain prompts, not conversations", fix="write a form of messages")


def columns_pair(pair: PreferencePair) -> dict[str, Any]:
    """Return ``{"id", "instruction", "input", "chosen", "rejected"}``, which LLaMA-Factory reads since 0.8.0."""
    return {
        "id": pair.id,
        "instruction": plain_prompt(pair.prompt),
        "input": "",
        "chosen": pair.chosen,
        "rejected": pair.rejected,
    }


def trl_example(example: SupervisedExample, *, conversational: bool = False, separator: str = " ") -> dict[str, Any]:
    """Return TRL's prompt-completion form.

    Args:
        example: The training example.
        conversational: Messages instead of text.
        separator: What stands between a plain prompt and its completion: the published prompts end in a colon, and
            their demonstrations continue with a space.
    """
    if conversational:
        return {"prompt": _messages(example.prompt), "completion": _reply(example.response)}
    return {"prompt": plain_prompt(example.prompt), "completion": separator + example.response}


def trl_pair(pair: PreferencePair, *, conversational: bool = False, separator: str = " ") -> dict[str, Any]:
    """Return TRL's preference form with an explicit prompt; see `trl_example`."""
    if conversational:
        return {
            "prompt": _messages(pair.prompt),
            "chosen": _reply(pair.chosen),
            "rejected": _reply(pair.rejected),
        }
    return {
        "prompt": plain_prompt(pair.prompt),
        "chosen": separator + pair.chosen,
        "rejected": separator + pair.rejected,
    }


def trl_chat(row: Learned) -> dict[str, Any]:
    """Return TRL's conversational form of an example or a pair; a plain prompt becomes a user message.

    OpenRLHF reads the same rows with its chat template: its keys are `prompt` and `completion`, or `prompt`, `chosen`
    and `rejected`.
    """
    if isinstance(row, PreferencePair):
        return trl_pair(row, conversational=True)
    return trl_example(row, conversational=True)


def llama_factory_chat(row: Learned) -> dict[str, Any]:
    """Return LLaMA-Factory's form of messages; `llama_factory_entry` describes it.

    Returns:
        ``{"messages"}``, which ends with the response; a pair's ends with its prompt, and ``chosen`` and ``rejected``
        are a message each.
    """
    if isinstance(row, PreferencePair):
        return {
            "messages": _messages(row.prompt),
            "chosen": _reply(row.chosen)[0],
            "rejected": _reply(row.rejected)[0],
        }
    return openai_chat(row)


def openai_chat(row: Learned) -> dict[str, Any]:
    """Return the form of OpenAI's fine-tuning: supervised for an example, by preference for a pair."""
    if isinstance(row, PreferencePair):
        return {
            "input": {"messages": _messages(row.prompt)},
            "preferred_output": _reply(row.chosen),
            "non_preferred_output": _reply(row.rejected),
        }
    return {"messages": [*_messages(row.prompt), *_reply(row.response)]}


def _messages(prompt: Prompt) -> list[dict[str, str]]:
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [{"role": message.role, "content": message.content} for message in prompt]


def _reply(response: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": response}]


def ends_with_user(prompt: Prompt) -> bool:
    """Say whether a response follows a user message: TRL refuses or continues any other."""
    return isinstance(prompt, str) or prompt[-1].role == "user"


def turns_alternate(prompt: Prompt) -> bool:
    """Say whether user and assistant take turns from user to user, behind at most one system message.

    LLaMA-Factory leaves out any other row, with no more than a warning.
    """
    if isinstance(prompt, str):
        return True
    turns = prompt[prompt[0].role == "system" :]
    return len(turns) % 2 == 1 and all(turn.role == CHAT_ROLES[1 + at % 2] for at, turn in enumerate(turns))


def has_chat_roles(prompt: Prompt) -> bool:
    """Say whether every message is of the system, the user or the assistant."""
    return isinstance(prompt, str) or all(message.role in CHAT_ROLES for message in prompt)


@dataclass(frozen=True, slots=True)
class TrainerForm:
    """The form of one trainer.

    Attributes:
        name: Of its folder.
        suffix: Of its files.
        row: Makes its rows.
        takes: Whether the trainer takes a prompt.
        wants: What it takes, in words.
    """

    name: str
    suffix: str
    row: Callable[[Learned], dict[str, Any]]
    takes: Callable[[Prompt], bool]
    wants: str


LLAMA_FACTORY = "llama_factory"
ROLES_ONLY = "messages of system, user and assistant alone"
CHAT_FORMS = (
    TrainerForm("trl", ".jsonl", trl_chat, ends_with_user, "prompts that end with a user message"),
    TrainerForm("openrlhf", ".jsonl", trl_chat, has_chat_roles, ROLES_ONLY),
    TrainerForm(
        *(LLAMA_FACTORY, ".json", llama_factory_chat, turns_alternate),
        "prompts of user and assistant in turn, from user to user",
    ),
    TrainerForm("openai", ".jsonl", openai_chat, has_chat_roles, ROLES_ONLY),
)
"""The forms in which examples and pairs are exported: conversations all, so that a prompt of either kind fits."""


def llama_factory_entry(file_name: str, *, ranking: bool) -> dict[str, Any]:
    """Return the entry of LLaMA-Factory's ``dataset_info.json`` for a file of `llama_factory_chat` rows.

    Args:
        file_name: The file, beside ``dataset_info.json``.
        ranking: Whether it holds pairs.
    """
    sides = {"chosen": "chosen", "rejected": "rejected"} if ranking else {}
    return {
        "file_name": file_name,
        "formatting": "sharegpt",
        **({"ranking": True} if ranking else {}),
        "columns": {"messages": "messages", **sides},
        "tags": {"role_tag": "role", "content_tag": "content", **{f"{role}_tag": role for role in CHAT_ROLES}},
    }


def llama_factory_registry(examples: Iterable[str], pairs: Iterable[str]) -> dict[str, Any]:
    """Return LLaMA-Factory's ``dataset_info.json`` for files of ``content, output`` and of `columns_pair` rows.

    Differs from the published registry: file names stand alone, so that the folder of the registry is the data set
    folder, and pairs name their chosen and rejected columns, which releases since 0.8.0 need.
    """
    supervised = {"columns": {"prompt": "content", "response": "output"}}
    ranked = {
        "ranking": True,
        "columns": {"prompt": "instruction", "query": "input", "chosen": "chosen", "rejected": "rejected"},
    }
    entries = [(name, supervised) for name in examples] + [(name, ranked) for name in pairs]
    return {Path(name).stem: {"file_name": name, **columns} for name, columns in entries}
