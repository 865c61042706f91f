"""Training sets in the forms that other trainers read: TRL, LLaMA-Factory, OpenRLHF (``docs/formats.md``)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from strop.errors import UserError
from strop.records.rows import PreferencePair, Prompt, SupervisedExample


def plain_prompt(prompt: Prompt) -> str:
    """Return a prompt that is text.

    Raises:
        UserError: It is a conversation.
    """
    if isinstance(prompt, str):
        return prompt
    raise UserError("this format holds plain prompts, not conversations", fix="write TRL's conversational format")


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


def _messages(prompt: Prompt) -> list[dict[str, str]]:
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [{"role": message.role, "content": message.content} for message in prompt]


def _reply(response: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": response}]


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
