"""The prompts of Weak-to-Strong Reasoning (arXiv 2407.13647): plain text, no instruction, no chat template.

The same zero-shot prompt asks the question at every place: of the weak model, of the fine-tuned strong model, and in
every training set. In-context learning puts demonstrations in front of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from strop.methods.weak_to_strong.demonstrations import Demonstration

STOP_STRINGS = ("Question", "Answer")
"""Where generation ends: a base model goes on with the next question when it has answered one."""

MAX_TOKENS = {"gsm8k": 1024, "math": 2048, "olympicarena": 2048}
"""The longest response of each data set, in tokens, as published."""


def zero_shot_prompt(question: str) -> str:
    """Return the prompt that asks `question` without demonstrations; no space follows the last colon."""
    return f"Question: {question}\nAnswer:"


def demonstration_block(demonstrations: Sequence[Demonstration]) -> str:
    """Return the demonstrations as text, each followed by an empty line."""
    return "".join(f"{zero_shot_prompt(shown.question)} {shown.answer}\n\n" for shown in demonstrations)


def few_shot_prompt(demonstrations: Sequence[Demonstration], question: str) -> str:
    """Return the prompt that asks `question` after `demonstrations`."""
    return demonstration_block(demonstrations) + zero_shot_prompt(question)


def olympicarena_prompt(prompt: str, demonstrations: Sequence[Demonstration] = ()) -> str:
    r"""Return OlympicArena's own prompt in the form that the method asks it in.

    Args:
        prompt: The data set's ``prompt`` field, which introduces the problem with a line ``problem:``.
        demonstrations: What to put in front; none for the zero-shot prompt.
    """
    return demonstration_block(demonstrations) + prompt.replace("\n\nproblem:\n", "\n\nQuestion: ") + "\n\nAnswer:"


def clean_response(text: str) -> str:
    """Return a completion as it is stored: without outer white space, then without leading and trailing full stops."""
    return text.strip().strip(".")
