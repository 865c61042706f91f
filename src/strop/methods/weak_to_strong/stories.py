"""Arithmetic stories: a task small enough to study weak-to-strong reasoning on a laptop.

A story starts with a number of things and changes it one to three times. Its worked solution has GSM8K's shape:
one calculation per line and the answer after ``####``. Pre-training documents hold several stories solved by one
*author*, so that a base model learns more than one way to answer:

* ``careful`` computes every step correctly;
* ``sloppy`` writes every step, each wrong with probability 0.35;
* ``hasty`` writes the answer only, wrong with probability 0.6.

Zero-shot, a base model imitates the majority of authors; demonstrations or fine-tuning can bring out the careful one.
The skill is latent, as weak-to-strong reasoning needs it to be (see ``docs/stories.md``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal

Author = Literal["careful", "sloppy", "hasty"]

AUTHOR_SHARES: dict[Author, float] = {"careful": 0.3, "sloppy": 0.1, "hasty": 0.6}
SLOPPY_STEP_ERROR = 0.35
HASTY_ANSWER_ERROR = 0.6
LARGEST_VALUE = 60
LARGEST_NUMBER = 99

NAMES = (
    "Ana",
    "Ben",
    "Cleo",
    "Dan",
    "Eva",
    "Finn",
    "Gus",
    "Hana",
    "Ivan",
    "Jo",
    "Kim",
    "Leo",
    "Mia",
    "Ned",
    "Ola",
    "Pia",
)
THINGS = ("apples", "books", "cards", "coins", "eggs", "pens", "shells", "stamps")
GAINS = ("buys", "finds", "gets", "wins")
LOSSES = ("gives", "loses", "sells", "uses")
LARGEST_OPERAND = 15


@dataclass(frozen=True, slots=True)
class Step:
    """One change: ``operator`` is ``+``, ``-`` or ``*``; ``phrase`` tells it in words."""

    operator: str
    operand: int
    phrase: str

    def apply(self, value: int) -> int:
        """Return the number of things after this change."""
        if self.operator == "+":
            return value + self.operand
        return value - self.operand if self.operator == "-" else value * self.operand


@dataclass(frozen=True, slots=True)
class Story:
    """A question with what its solution needs: the first number and the changes in order."""

    question: str
    start: int
    steps: tuple[Step, ...]

    @property
    def answer(self) -> int:
        """The number of things at the end."""
        value = self.start
        for step in self.steps:
            value = step.apply(value)
        return value


def _draw_step(random: Random, value: int) -> Step:
    """Draw a change that keeps the number of things between 0 and `LARGEST_VALUE`."""
    while True:
        operator = random.choice("+-*")
        operand = random.randint(2, 5) if operator == "*" else random.randint(2, LARGEST_OPERAND)
        if operator == "*":
            phrase = f"has {operand} times that"
        else:
            phrase = f"{random.choice(GAINS if operator == '+' else LOSSES)} {operand}"
        step = Step(operator, operand, phrase)
        if 0 <= step.apply(value) <= LARGEST_VALUE:
            return step


def draw_story(random: Random, *, steps: int) -> Story:
    """Draw one story with `steps` changes from `random`."""
    name, things = random.choice(NAMES), random.choice(THINGS)
    start = value = random.randint(2, 30)
    changes: list[Step] = []
    for _ in range(steps):
        step = _draw_step(random, value)
        value = step.apply(value)
        changes.append(step)
    told = ", ".join(step.phrase for step in changes)
    return Story(f"{name} has {start} {things}, {told}. How many?", start, tuple(changes))


def draw_distinct_stories(random: Random, *, count: int, steps: int, exclude: set[str] | None = None) -> list[Story]:
    """Draw `count` stories whose questions differ from each other and from every question in `exclude`."""
    seen = set(exclude or ())
    stories: list[Story] = []
    while len(stories) < count:
        story = draw_story(random, steps=steps)
        if story.question not in seen:
            seen.add(story.question)
            stories.append(story)
    return stories


def _wrong(random: Random, right: int) -> int:
    """Draw a number in ``[0, LARGEST_VALUE]`` other than `right`."""
    while True:
        drawn = random.randint(0, LARGEST_VALUE)
        if drawn != right:
            return drawn


def solve(story: Story, *, author: Author = "careful", random: Random | None = None) -> str:
    """Write `author`'s solution of `story`; `random` decides where the sloppy and the hasty author err."""
    if author == "careful":
        random = Random(0)
    assert random is not None, "the sloppy and the hasty author need a source of randomness"
    if author == "hasty":
        answer = _wrong(random, story.answer) if random.random() < HASTY_ANSWER_ERROR else story.answer
        return f"#### {answer}"
    value, lines = story.start, []
    for step in story.steps:
        result = step.apply(value)
        outside = not 0 <= result <= LARGEST_NUMBER
        if author == "sloppy" and (outside or random.random() < SLOPPY_STEP_ERROR):
            result = _wrong(random, result)
        lines.append(f"{value} {step.operator} {step.operand} = {result}")
        value = result
    return "\n".join([*lines, f"#### {value}"])


def pretraining_documents(random: Random, *, stories: int, longest: int = 3) -> Iterator[list[tuple[str, str]]]:
    """Yield endless documents: `stories` question-solution pairs by one author, of 1 to `longest` steps each."""
    authors = tuple(AUTHOR_SHARES)
    weights = tuple(AUTHOR_SHARES.values())
    while True:
        author = random.choices(authors, weights)[0]
        drawn = (draw_story(random, steps=random.randint(1, longest)) for _ in range(stories))
        yield [(story.question, solve(story, author=author, random=random)) for story in drawn]


def vocabulary() -> list[str]:
    """Return every token of the story language: words and signs with and without a leading space, and numbers."""
    words = {"Question", "Answer", "has", "times", "that", "How", "many", *NAMES, *THINGS, *GAINS, *LOSSES}
    signs = (":", ".", ",", "?", "+", "-", "*", "=", "####")
    numbers = tuple(str(number) for number in range(LARGEST_NUMBER + 1))
    pieces = sorted(words) + list(signs) + list(numbers)
    return ["\n", *pieces, *(f" {piece}" for piece in pieces)]
