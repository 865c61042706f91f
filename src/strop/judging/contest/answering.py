"""A contestant: a model with its instructions; and the stage in which it answers the prompts of a comparison."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from strop.models.asking import ask_each
from strop.models.placement import Placement, open_placed
from strop.models.protocol import Sampling
from strop.models.spec import ModelField
from strop.records.rows import Message, Prompt, prompt_from_json
from strop.runs import Artifact, Stage
from strop.runs.calls import FailedCall
from strop.runs.configuration import Config


class Contestant(Config):
    """A model as it stands in a comparison."""

    model: ModelField
    """Who answers."""
    name: str = ""
    """What it is called in the report; by default its model's name."""
    system: str = ""
    """A system message in front of every prompt: a tuned prompt is the baseline that any training must beat."""
    temperature: float = Field(0.0, ge=0)
    """Sampling temperature; 0 is greedy."""
    max_tokens: int = Field(512, ge=1)
    """Longest answer in tokens."""

    @property
    def label(self) -> str:
        """What it is called in the report."""
        return self.name or self.model.model


def limit_sentence(words: int) -> str:
    """Return how a contestant is told to keep to a number of words."""
    return f"Answer in at most {words} words."


def addressed(prompt: Prompt, system: str, *, word_limit: int | None = None) -> Prompt:
    """Return the prompt as a contestant gets it: a conversation, with its system message in front.

    Args:
        prompt: Text, or a conversation.
        system: The contestant's own system message; may be empty.
        word_limit: The most words to ask for, at the end of the system message; None asks for nothing.
    """
    turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    told = " ".join(filter(None, [system, limit_sentence(word_limit) if word_limit else ""]))
    return (Message("system", told), *turns) if told else turns


def respond(
    stage: Stage,
    prompts: Artifact,
    contestant: Contestant,
    *,
    seed: int,
    placement: Placement,
    trained: Artifact | None = None,
    word_limit: int | None = None,
) -> None:
    """Let a contestant answer: `rows.jsonl` with `id` and `response`, `failures.jsonl` for prompts without answer.

    Args:
        stage: Where to write and to ask.
        prompts: Rows of `id` and `prompt`.
        contestant: Who answers, with its instructions and its sampling.
        seed: Of sampled answers.
        placement: Where the model answers.
        trained: An artifact whose folder ``model`` answers in place of the contestant's own model.
        word_limit: See `addressed`.
    """
    rows = prompts.rows()
    asked = [addressed(prompt_from_json(row["prompt"]), contestant.system, word_limit=word_limit) for row in rows]
    sampling = Sampling(contestant.temperature, max_tokens=contestant.max_tokens, seed=seed)
    model = open_placed(contestant.model if trained is None else trained.path("model"), placement)
    answers: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    try:
        with stage.progress(f"{stage.name}: {contestant.label}", len(rows)) as advance:
            outcomes = ask_each(model, asked, sampling, store=stage.store, advance=advance)
            for row, (outcome,) in zip(rows, outcomes, strict=True):
                if isinstance(outcome, FailedCall):
                    failures.append({"id": row["id"], "kind": outcome.kind, "message": outcome.message})
                else:
                    answers.append({"id": row["id"], "response": outcome.text, "finish": outcome.finish})
    finally:
        model.close()
    stage.write_rows(answers)
    stage.write_rows(failures, "failures.jsonl")
