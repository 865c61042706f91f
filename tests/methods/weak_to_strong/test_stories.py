"""Stories by hand and at random: values in range, gold that grades as correct, authors that err as often as stated."""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from strop.evaluation.answers import MODES, Mode, extract_answer, parse_key, same_answer
from strop.methods import RECIPES
from strop.methods.weak_to_strong.config import StoriesData, WeakToStrongConfig
from strop.methods.weak_to_strong.problems import Problems, story_problems
from strop.methods.weak_to_strong.prompts import demonstration_block, zero_shot_prompt
from strop.methods.weak_to_strong.stories import (
    AUTHOR_SHARES,
    HASTY_ANSWER_ERROR,
    LARGEST_VALUE,
    SLOPPY_STEP_ERROR,
    Author,
    Step,
    Story,
    draw_distinct_stories,
    draw_story,
    pretraining_documents,
    solve,
    vocabulary,
)
from strop.models.builtin import builtin_folder
from strop.runs.configuration import load_recipe

BEN = Story(
    "Ben has 18 eggs, sells 8, wins 7, has 2 times that. How many?",
    18,
    (Step("-", 8, "sells 8"), Step("+", 7, "wins 7"), Step("*", 2, "has 2 times that")),
)
SEEDS = st.integers(0, 2**32)
STEPS = st.integers(1, 5)


class TestByHand:
    def test_the_careful_author_writes_gsm8ks_shape(self) -> None:
        """18 - 8 = 10, 10 + 7 = 17, 17 * 2 = 34."""
        assert BEN.answer == 34
        assert solve(BEN) == "18 - 8 = 10\n10 + 7 = 17\n17 * 2 = 34\n#### 34"

    def test_the_prompt_is_that_of_the_method(self) -> None:
        expected = "Question: Ben has 18 eggs, sells 8, wins 7, has 2 times that. How many?\nAnswer:"
        assert zero_shot_prompt(BEN.question) == expected

    def test_the_hasty_author_writes_the_answer_only(self) -> None:
        assert re.fullmatch(r"#### \d+", solve(BEN, author="hasty", random=Random(0)))

    def test_an_author_who_errs_needs_randomness(self) -> None:
        with pytest.raises(AssertionError, match="randomness"):
            solve(BEN, author="sloppy")


@given(SEEDS, STEPS)
def test_values_stay_in_range_and_the_question_tells_them(seed: int, steps: int) -> None:
    story = draw_story(Random(seed), steps=steps)
    value = story.start
    assert f" has {story.start} " in story.question
    for step in story.steps:
        value = step.apply(value)
        assert 0 <= value <= LARGEST_VALUE
        assert step.phrase in story.question
    assert (len(story.steps), value) == (steps, story.answer)


@given(SEEDS, STEPS, st.sampled_from(MODES))
def test_careful_solutions_grade_as_correct(seed: int, steps: int, mode: Mode) -> None:
    story = draw_story(Random(seed), steps=steps)
    predicted = extract_answer(solve(story), parse_key("gsm8k"), mode)
    assert predicted
    assert same_answer(predicted, str(story.answer), mode).correct is True
    assert same_answer(predicted, str(story.answer + 1), mode).correct is False


@given(SEEDS, STEPS)
def test_careful_lines_are_true(seed: int, steps: int) -> None:
    *lines, last = solve(draw_story(Random(seed), steps=steps)).split("\n")
    for line in lines:
        first, operator, second, equals, result = line.split(" ")
        value = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}[operator](int(first), int(second))
        assert (equals, value) == ("=", int(result))
    assert last == f"#### {lines[-1].split(' ')[-1]}"


@given(SEEDS, STEPS)
def test_sloppy_steps_go_on_from_what_was_written(seed: int, steps: int) -> None:
    story = draw_story(Random(seed), steps=steps)
    *lines, last = solve(story, author="sloppy", random=Random(seed)).split("\n")
    starts, results = ([line.split(" ")[place] for line in lines] for place in (0, -1))
    assert starts == [str(story.start), *results[:-1]]
    assert last == f"#### {results[-1]}"


def assert_rate(hits: int, trials: int, probability: float) -> None:
    """Refuse a count that has probability below one in a million on either side."""
    low, high = binom.ppf([5e-7, 1 - 5e-7], trials, probability)
    assert low <= hits <= high, f"{hits} of {trials} at {probability}"


class TestErrorRates:
    """The draws are seeded: a failure is a change of the authors, not bad luck."""

    def test_hasty(self) -> None:
        random, trials = Random(1), 4000
        stories = [draw_story(random, steps=2) for _ in range(trials)]
        wrong = sum(solve(story, author="hasty", random=random) != f"#### {story.answer}" for story in stories)
        assert_rate(wrong, trials, HASTY_ANSWER_ERROR)

    def test_sloppy_first_steps(self) -> None:
        """The first step of a story always stays in range, so only the stated rate makes it wrong."""
        random, trials = Random(2), 4000
        stories = [draw_story(random, steps=2) for _ in range(trials)]
        wrong = 0
        for story in stories:
            first = solve(story, author="sloppy", random=random).split("\n")[0]
            wrong += int(first.split(" ")[-1]) != story.steps[0].apply(story.start)
        assert_rate(wrong, trials, SLOPPY_STEP_ERROR)

    def test_authors_of_documents(self) -> None:
        """Documents of eight stories: a hasty one has no calculation; all others are told apart by a wrong step."""
        documents, trials = pretraining_documents(Random(3), stories=8), 1500
        hasty = careful = 0
        for _ in range(trials):
            solutions = [solution for _, solution in next(documents)]
            if all("=" not in solution for solution in solutions):
                hasty += 1
            else:
                careful += all(map(_true, solutions))
        assert_rate(hasty, trials, AUTHOR_SHARES["hasty"])
        # Eight sloppy stories of one step each are all right with probability 0.65^8 = 0.03, and longer ones less.
        assert_rate(careful, trials, AUTHOR_SHARES["careful"])


def _true(solution: str) -> bool:
    steps = [line.split(" ") for line in solution.split("\n")[:-1]]
    operations: dict[str, Any] = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}
    return all(operations[step[1]](int(step[0]), int(step[2])) == int(step[4]) for step in steps)


class TestVocabulary:
    @pytest.fixture(scope="class")
    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(builtin_folder("stories-strong"))

    def test_no_token_occurs_twice(self) -> None:
        assert len(vocabulary()) == len(set(vocabulary()))

    @pytest.mark.parametrize("base", ["stories-strong", "stories-weak"])
    def test_the_bases_hold_every_token(self, base: str) -> None:
        from transformers import AutoTokenizer

        held = AutoTokenizer.from_pretrained(builtin_folder(base)).get_vocab()
        assert set(vocabulary()) | {"<pad>", "<eos>", "<unk>"} == set(held)

    @pytest.mark.parametrize("author", ["careful", "sloppy", "hasty"])
    def test_every_drawn_text_comes_back_as_it_was(self, tokenizer: Any, author: Author) -> None:
        random = Random(4)
        for _ in range(400):
            story = draw_story(random, steps=random.randint(1, 5))
            text = f"{zero_shot_prompt(story.question)} {solve(story, author=author, random=random)}"
            ids = tokenizer(text).input_ids
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids) == text

    def test_a_prompt_with_demonstrations_comes_back_too(self, tokenizer: Any) -> None:
        from strop.methods.weak_to_strong.demonstrations import Demonstration

        block = demonstration_block([Demonstration(0, BEN.question, solve(BEN))] * 2)
        ids = tokenizer(block + zero_shot_prompt(BEN.question)).input_ids
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == block + zero_shot_prompt(BEN.question)

    def test_numbers_are_single_tokens(self, tokenizer: Any) -> None:
        assert len(tokenizer(" 99").input_ids) == 1
        assert tokenizer.unk_token_id in tokenizer(" 100").input_ids


@given(SEEDS, st.integers(0, 60))
def test_distinct_stories_avoid_each_other_and_the_excluded(seed: int, count: int) -> None:
    excluded = {story.question for story in draw_distinct_stories(Random(seed), count=20, steps=1)}
    stories = draw_distinct_stories(Random(seed), count=count, steps=1, exclude=excluded)
    questions = {story.question for story in stories}
    assert len(questions) == count
    assert not questions & excluded


class TestProblems:
    DATA = StoriesData(steps=1, train_1=300, train_2=200, test=100)

    @staticmethod
    def splits(problems: Problems) -> list[list[str]]:
        return [
            [question.text for question in split[0]] for split in (problems.train_1, problems.train_2, problems.test)
        ]

    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_splits_never_share_a_question(self, seed: int) -> None:
        """Stories of one step repeat soonest; 600 drawn without care would collide."""
        splits = self.splits(story_problems(self.DATA, seed=seed))
        assert [len(split) for split in splits] == [300, 200, 100]
        assert len({question for split in splits for question in split}) == 600

    def test_populations_and_seeds_draw_other_stories(self) -> None:
        development = self.DATA.model_copy(update={"population": "development"})
        evaluation = self.splits(story_problems(self.DATA, seed=0))
        assert self.splits(story_problems(development, seed=0)) != evaluation
        assert self.splits(story_problems(self.DATA, seed=1)) != evaluation
        assert self.splits(story_problems(self.DATA, seed=0)) == evaluation

    def test_long_stories_of_the_two_populations_are_different_questions(self) -> None:
        """Of the recipes' three steps there are so many stories that two thousand of each share next to none."""
        drawn = [
            story_problems(StoriesData(steps=3, train_1=1, train_2=1, test=2000, population=population), seed=0)
            for population in ("development", "evaluation")
        ]
        first, second = ({question.text for question in problems.test[0]} for problems in drawn)
        assert len(first & second) <= 5

    def test_gold_is_the_careful_solution(self) -> None:
        questions, gold = story_problems(self.DATA, seed=0).test
        assert [known.id for known in gold] == [question.id for question in questions]
        assert all(known.solution.endswith(f"\n#### {known.answer}") for known in gold)


@pytest.mark.slow
def test_the_reported_questions_are_new_to_the_base_and_to_development() -> None:
    """The 5,000 test questions of `weak_to_strong/cpu` against development, the demo, and all pre-training stories."""
    config = load_recipe("weak_to_strong/cpu", recipes=RECIPES).config
    demo = load_recipe("weak_to_strong/demo", recipes=RECIPES).config
    assert isinstance(config, WeakToStrongConfig)
    assert isinstance(demo, WeakToStrongConfig)
    assert isinstance(config.data, StoriesData)
    tested = {question.text for seed in config.seeds for question in story_problems(config.data, seed=seed).test[0]}
    development = config.data.model_copy(update={"population": "development"})
    assert isinstance(demo.data, StoriesData)
    others = (story_problems(development, seed=1), story_problems(demo.data, seed=demo.seeds[0]))
    seen = {question.text for one in others for split in (one.train_1, one.train_2, one.test) for question in split[0]}
    log = json.loads((builtin_folder("stories-strong") / "training_log.json").read_text())
    size = log["size"]
    documents = pretraining_documents(Random(f"pretraining-strong-{log['seed']}"), stories=size["stories"])
    for _ in range(size["steps"] * size["documents"]):
        seen |= {question for question, _ in next(documents)}
    assert len(tested) == 5_000
    assert not tested & seen
