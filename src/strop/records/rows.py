"""The rows that stages hand to each other. None of them holds a gold answer: gold lives in a table of its own.

Every row turns into a JSON object with `to_row` and back with `from_row`; a missing or mistyped field is a
`UserError` that names the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from strop.errors import UserError

Identifier = int | str
"""A row's id. Integers stay integers: the published files number their rows."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; `role` is ``system``, ``user`` or ``assistant``."""

    role: str
    content: str


Prompt = str | tuple[Message, ...]
"""Plain text, or a conversation that the model's chat template renders."""


def prompt_to_json(prompt: Prompt) -> str | list[dict[str, str]]:
    """Return `prompt` as JSON: text, or a list of ``{"role", "content"}``."""
    if isinstance(prompt, str):
        return prompt
    return [{"role": message.role, "content": message.content} for message in prompt]


def prompt_from_json(value: object) -> Prompt:
    """Read a prompt from JSON.

    Raises:
        UserError: `value` is neither text nor a list of messages with `role` and `content`.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and value:
        try:
            return tuple(Message(str(turn["role"]), str(turn["content"])) for turn in value)
        except (KeyError, TypeError):
            pass
    raise UserError("a prompt must be text or a list of messages with 'role' and 'content'", value=value)


def _field(row: Row, name: str) -> Any:
    if name not in row:
        raise UserError(
            f"a row has no field {name!r}", value=sorted(row), fix=f"map one of its fields with --fields {name}=YOURS"
        )
    return row[name]


def _text(row: Row, name: str) -> str:
    value = _field(row, name)
    if not isinstance(value, str):
        raise UserError(f"field {name!r} must be text", value=value)
    return value


def identifier(row: Row) -> Identifier:
    """Return the row's ``id``.

    Raises:
        UserError: There is none, or it is neither an integer nor text.
    """
    value = _field(row, "id")
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise UserError("an id must be an integer or text", value=value)
    return value


@dataclass(frozen=True, slots=True)
class Question:
    """A question that a model is to answer."""

    id: Identifier
    text: str

    def to_row(self) -> dict[str, Any]:
        """Return ``{"id", "question"}``."""
        return {"id": self.id, "question": self.text}

    @classmethod
    def from_row(cls, row: Row) -> Self:
        """Read ``{"id", "question"}``; further fields (gold among them) are left behind."""
        return cls(identifier(row), _text(row, "question"))


@dataclass(frozen=True, slots=True)
class Answer:
    """One model's one response to a prompt."""

    id: Identifier
    prompt: Prompt
    response: str

    def to_row(self) -> dict[str, Any]:
        """Return ``{"id", "prompt", "response"}``."""
        return {"id": self.id, "prompt": prompt_to_json(self.prompt), "response": self.response}

    @classmethod
    def from_row(cls, row: Row) -> Self:
        """Read ``{"id", "prompt", "response"}``."""
        return cls(identifier(row), prompt_from_json(_field(row, "prompt")), _text(row, "response"))


@dataclass(frozen=True, slots=True)
class SampledAnswers:
    """Several responses of one model to one prompt, in sample order."""

    id: Identifier
    prompt: Prompt
    responses: tuple[str, ...]

    def to_row(self) -> dict[str, Any]:
        """Return ``{"id", "prompt", "responses"}``."""
        return {"id": self.id, "prompt": prompt_to_json(self.prompt), "responses": list(self.responses)}

    @classmethod
    def from_row(cls, row: Row) -> Self:
        """Read ``{"id", "prompt", "responses"}``."""
        responses = _field(row, "responses")
        if not isinstance(responses, (list, tuple)) or not all(isinstance(text, str) for text in responses):
            raise UserError("field 'responses' must be a list of texts", value=responses)
        return cls(identifier(row), prompt_from_json(_field(row, "prompt")), tuple(responses))


@dataclass(frozen=True, slots=True)
class SupervisedExample:
    """A prompt with the response to learn."""

    id: Identifier
    prompt: Prompt
    response: str

    def to_row(self) -> dict[str, Any]:
        """Return ``{"id", "prompt", "response"}``."""
        return {"id": self.id, "prompt": prompt_to_json(self.prompt), "response": self.response}

    @classmethod
    def from_row(cls, row: Row) -> Self:
        """Read ``{"id", "prompt", "response"}``."""
        return cls(identifier(row), prompt_from_json(_field(row, "prompt")), _text(row, "response"))


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """A prompt with a better and a worse response."""

    id: Identifier
    prompt: Prompt
    chosen: str
    rejected: str

    def to_row(self) -> dict[str, Any]:
        """Return ``{"id", "prompt", "chosen", "rejected"}``."""
        return {
            "id": self.id,
            "prompt": prompt_to_json(self.prompt),
            "chosen": self.chosen,
            "rejected": self.rejected,
        }

    @classmethod
    def from_row(cls, row: Row) -> Self:
        """Read ``{"id", "prompt", "chosen", "rejected"}``."""
        prompt = prompt_from_json(_field(row, "prompt"))
        return cls(identifier(row), prompt, _text(row, "chosen"), _text(row, "rejected"))
