"""Demonstrations for in-context learning, taken from the weak model's own answers, right or wrong.

Gold is not needed to choose them. Only `first_correct` uses what gold says, and only as a set of ids; it reproduces
the published variant "random correct", which a study of real weak supervision must not use.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from random import Random

from strop.errors import UserError
from strop.records import Answer, Identifier, Prompt

PUBLISHED_SEED = 42


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A question with the weak model's answer to it; `id` is the question's."""

    id: Identifier
    question: str
    answer: str


def question_of(prompt: Prompt) -> str:
    r"""Return the question that a zero-shot prompt asks.

    This is what stands between ``Question: `` and the last ``Answer:``; an OlympicArena prompt introduces its question
    with a few lines, which are left out.

    Raises:
        UserError: The prompt has another form.
    """
    if isinstance(prompt, str) and prompt.startswith("Question: ") and prompt.endswith("\nAnswer:"):
        return prompt.removeprefix("Question: ").removesuffix("\nAnswer:")
    if isinstance(prompt, str) and "\n\nQuestion: " in prompt and prompt.endswith("\n\nAnswer:"):
        return prompt.partition("\n\nQuestion: ")[2].removesuffix("\n\nAnswer:")
    raise UserError(
        "a demonstration needs a zero-shot prompt, 'Question: ...' and 'Answer:' on the next line",
        value=str(prompt)[:80],
        fix="take the weak model's zero-shot answers",
    )


def random_demonstrations(
    answers: Sequence[Answer], *, key: str, count: int = 4, random: Random | None = None
) -> list[Demonstration]:
    """Choose demonstrations as the published helper does: shuffle all answers, take the first that state an answer.

    Args:
        answers: The weak model's answers in file order.
        key: What introduces a final answer; a response that does not contain it is passed over.
        count: How many to take.
        random: What shuffles; the published stream (seed 42) unless given.

    Raises:
        UserError: Fewer than `count` answers contain the key.
    """
    return _first(answers, lambda answer: key in answer.response, count, random, f"contain {key!r}")


def first_correct(
    answers: Sequence[Answer], *, correct: Collection[Identifier], count: int = 4, random: Random | None = None
) -> list[Demonstration]:
    """Choose demonstrations among the answers that are known to be correct, in the published shuffled order.

    Args:
        answers: The weak model's answers in file order.
        correct: The ids of its correct answers. This comes from gold and serves for demonstrations only.
        count: How many to take.
        random: What shuffles; the published stream (seed 42) unless given.

    Raises:
        UserError: Fewer than `count` answers are correct.
    """
    return _first(answers, lambda answer: answer.id in correct, count, random, "are correct")


def _first(
    answers: Sequence[Answer], suits: Callable[[Answer], bool], count: int, random: Random | None, what: str
) -> list[Demonstration]:
    shuffled = list(answers)
    (random or Random(PUBLISHED_SEED)).shuffle(shuffled)
    suitable = [answer for answer in shuffled if suits(answer)]
    if len(suitable) < count:
        raise UserError(f"{count} demonstrations are wanted, but only {len(suitable)} weak answers {what}")
    return [_demonstration(answer) for answer in suitable[:count]]


def given_demonstrations(answers: Sequence[Answer], *, ids: Sequence[Identifier]) -> list[Demonstration]:
    """Return the weak model's answers to the questions `ids`, in that order.

    Raises:
        UserError: An id is not among the answers.
    """
    by_id = {answer.id: answer for answer in answers}
    missing = [identifier for identifier in ids if identifier not in by_id]
    if missing:
        raise UserError("no weak answer has the id of a demonstration", value=missing)
    return [_demonstration(by_id[identifier]) for identifier in ids]


def _demonstration(answer: Answer) -> Demonstration:
    return Demonstration(answer.id, question_of(answer.prompt), answer.response)
