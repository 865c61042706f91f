"""Find the final answer in a model's response.

The published rule (Weak-to-Strong Reasoning, released code) wants the answer key on the last line of the response.
The strict mode wants the key too but is forgiving about where: the *last* key with something after it wins, on any
line, with or without the space. The lenient mode takes a boxed answer or the last number where there is no key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from strop.errors import UserError
from strop.evaluation.answers.canonical import balanced
from strop.evaluation.answers.normalisation import normalise

Mode = Literal["compat", "strict", "lenient"]
"""``compat``: the published rules; ``strict``: mathematically equal, key required; ``lenient``: key optional."""

MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True, slots=True)
class AnswerKey:
    """The text that announces a final answer, such as ``####``."""

    text: str

    def __post_init__(self) -> None:
        if not self.text.strip() or "\n" in self.text:
            raise UserError(
                "an answer key must be a piece of one line", value=self.text, alternatives=tuple(NAMED_KEYS)
            )


NAMED_KEYS = {"gsm8k": "####", "math": "The answer is:"}
"""The keys of the two benchmarks, by name."""

RESCUE = "The answer is"
"""Without a colon: the published rule reads a number after it when there is no key."""

NEXT_QUESTION = "Question"
END_OF_SEQUENCE = "</s>"

_NUMBER = re.compile(r"-?\d+\.?\d*")
_NEXT_QUESTION = re.compile(r"(?m)^[ \t]*Question\b|\bQuestion(?: \d+)?:")
_STATED_NUMBER = re.compile(
    r"(?<![\w.])[-\u2212]?\$?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:/\d+(?![\d/]))?|(?<![\w.])-?\.\d+"
)


def parse_key(text: str) -> AnswerKey:
    """Read an answer key: ``gsm8k``, ``math``, or any literal text such as ``A:``.

    Raises:
        UserError: The text is empty or holds a line break.
    """
    return AnswerKey(NAMED_KEYS.get(text, text))


def parse_mode(text: str) -> Mode:
    """Read a grading mode.

    Raises:
        UserError: There is no such mode.
    """
    for mode in MODES:
        if text == mode:
            return mode
    raise UserError("no such grading mode", value=text, alternatives=MODES)


def extract_answer(response: str, key: AnswerKey, mode: Mode) -> str:
    """Return the final answer of a response, or the empty string when there is none.

    Args:
        response: A model's response.
        key: What announces the answer.
        mode: ``compat`` gives the published ``pred`` (normalised); ``strict`` and ``lenient`` give the answer's text as
            the model wrote it, trimmed.
    """
    if mode == "compat":
        return normalise(_published(response.partition(NEXT_QUESTION)[0], key))
    answer = _last_stated(_NEXT_QUESTION.split(response, maxsplit=1)[0], key)
    if not answer and mode == "lenient":
        answer = _unannounced(response)
    return answer


def prepare_gold(gold: str, key: AnswerKey, mode: Mode) -> str:
    """Return the gold answer of a gold field: the field itself, or the answer of the worked solution that it holds.

    Returns:
        The answer, normalised in ``compat``; empty when a worked solution states none. Unlike a response, a gold
        solution never runs on into the next question: the word may occur in it.
    """
    worked = key.text in gold
    if mode == "compat":
        return normalise(_published(gold, key) if worked else gold)
    return _last_stated(gold, key) if worked else gold.strip()


def _published(text: str, key: AnswerKey) -> str:
    """Steps 2 to 4 of the published extraction."""
    text = text.strip()
    last_line = text[text.rfind("\n") + 1 :]
    answer = last_line.partition(key.text + " ")[2] or _rescued(last_line)
    return answer[: -len(END_OF_SEQUENCE)] if END_OF_SEQUENCE in answer else answer


def _rescued(last_line: str) -> str:
    stated = last_line.partition(RESCUE + " ")[2].replace(",", "")
    number = _NUMBER.search(stated)
    return number.group().removesuffix(".") if number else ""


def _last_stated(text: str, key: AnswerKey) -> str:
    """Return what follows the last key, or the last "The answer is", whichever comes later and is followed by text."""
    text = text.replace(END_OF_SEQUENCE, "\n")
    end = len(text)
    at_key, at_rescue = text.rfind(key.text), text.rfind(RESCUE)
    while at_key >= 0 or at_rescue >= 0:
        # "The answer is:" begins with the rescue text: where both start, the key is the announcement.
        if at_key >= at_rescue:
            answer = _stated_after(text[at_key + len(key.text) : end])
        else:
            answer = _number_after(text[at_rescue + len(RESCUE) : end])
        if answer:
            return answer
        end = max(at_key, at_rescue)
        # Each is searched again only once it is used up: otherwise many empty keys would take quadratic time.
        at_key = at_key if at_key < end else text.rfind(key.text, 0, end)
        at_rescue = at_rescue if at_rescue < end else text.rfind(RESCUE, 0, end)
    return ""


def _stated_after(text: str) -> str:
    """Return the rest of the line, or the next line with something on it, without the full stop that ends it."""
    line = text.removeprefix(":").lstrip().partition("\n")[0].partition(NEXT_QUESTION)[0]
    return line.strip().rstrip(".").strip()


def _number_after(text: str) -> str:
    """Return the formula or the first number of the sentence: prose such as "The answer is obvious" states nothing."""
    sentence = _stated_after(text)
    if "\\" in sentence:
        return sentence
    number = _STATED_NUMBER.search(sentence)
    return number.group() if number else ""


def _unannounced(response: str) -> str:
    boxed = last_boxed(response)
    if boxed:
        return boxed
    numbers = _STATED_NUMBER.findall(response)
    return numbers[-1] if numbers else ""


def last_boxed(text: str) -> str:
    r"""Return the content of the last ``\boxed{...}``, braces balanced, or the empty string."""
    start = text.rfind("\\boxed{")
    return (balanced(text, start + len("\\boxed{")) or "").strip() if start >= 0 else ""
