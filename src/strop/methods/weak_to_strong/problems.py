"""Where the questions of a run come from, and their gold: stories drawn anew for each seed, or files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from strop.methods.weak_to_strong.config import FilesData, StoriesData
from strop.methods.weak_to_strong.data import (
    Gold,
    QuestionsAndGold,
    read_gsm8k,
    read_math,
    read_olympicarena,
)
from strop.methods.weak_to_strong.stories import Story, draw_distinct_stories, solve
from strop.records import Question
from strop.runs import stream

READERS = {"gsm8k": read_gsm8k, "math": read_math, "olympicarena": read_olympicarena}
NOTHING: QuestionsAndGold = ([], [])


@dataclass(frozen=True, slots=True)
class Problems:
    """The three splits of a run, each as questions and their gold."""

    train_1: QuestionsAndGold
    train_2: QuestionsAndGold
    test: QuestionsAndGold


def story_problems(data: StoriesData, *, seed: int) -> Problems:
    """Draw stories for one seed; no question occurs twice, within a split or across."""
    random = stream(seed, "stories", data.population)
    stories = draw_distinct_stories(random, count=data.train_1 + data.train_2 + data.test, steps=data.steps)
    first, second = data.train_1, data.train_1 + data.train_2
    return Problems(*(_numbered(part) for part in (stories[:first], stories[first:second], stories[second:])))


def _numbered(stories: list[Story]) -> QuestionsAndGold:
    questions = [Question(number, story.question) for number, story in enumerate(stories)]
    gold = [Gold(number, str(story.answer), solve(story), "stories") for number, story in enumerate(stories)]
    return questions, gold


def file_problems(data: FilesData) -> Problems:
    """Read the splits of a run from files, the same for every seed."""
    read = READERS[data.format]

    def split(path: Path | None) -> QuestionsAndGold:
        return NOTHING if path is None else read(path)

    return Problems(split(data.train_1), split(data.train_2), split(data.test))


def draw_problems(data: StoriesData | FilesData, *, seed: int) -> Problems:
    """Return the problems of one seed."""
    return story_problems(data, seed=seed) if isinstance(data, StoriesData) else file_problems(data)
