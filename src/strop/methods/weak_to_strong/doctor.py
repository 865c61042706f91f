"""Two-minute checks of a user's own weak-to-strong set-up, on a sample of its data and with its own models.

The checks of the rows and of the starting models are those that run before every training
(`strop.training.checks`); to them come whether gold grades as correct, whether demonstrations fit into the strong
model's context, and whether models that are only asked answer in the expected form.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strop.errors import StropError, UserError
from strop.evaluation.answers import parse_key
from strop.methods.weak_to_strong.agreement import OLYMPICARENA, AnswerRule
from strop.methods.weak_to_strong.config import WeakToStrongConfig
from strop.methods.weak_to_strong.data import QuestionsAndGold
from strop.methods.weak_to_strong.demonstrations import Demonstration, question_of
from strop.methods.weak_to_strong.grading import Grader
from strop.methods.weak_to_strong.preflight import preflight
from strop.methods.weak_to_strong.problems import draw_problems
from strop.methods.weak_to_strong.prompts import clean_response, demonstration_block
from strop.methods.weak_to_strong.stages import open_for, prompt_of
from strop.models.opening import model_folder
from strop.models.protocol import Call, CallFailure, Sampling
from strop.models.spec import ModelSpec
from strop.records import Answer, PreferencePair, SupervisedExample, write_table
from strop.training import Finding, Kind, PreferenceSettings, TrainingSettings

SAMPLE = 64
"""Questions that the checks look at; grading looks at all."""
ASKED = 3
"""Questions that a model which is only asked must answer."""
GRADED_SHARE = 0.98
"""Least share of gold answers that must grade as correct; data sets hold a few that cannot be read."""
STAND_INS = ("\\boxed{0}", "\\boxed{1}")


@dataclass(frozen=True, slots=True)
class _Solved:
    """A question as it is asked, with a solution: gold, or a stand-in where the data hold none."""

    id: int | str
    prompt: str
    solution: str


def examine_recipe(config: WeakToStrongConfig) -> Iterator[Finding]:
    """Yield what the checks of a set-up find: data first, then the weak model, then the strong one.

    Args:
        config: The settings of the run.

    Raises:
        UserError: A model or a file is missing, or a model that is to be trained has no weights here.
    """
    preflight(config)
    problems = draw_problems(config.data, seed=config.seeds[0])
    splits = {"train_1": problems.train_1, "train_2": problems.train_2, "test": problems.test}
    for split, known in splits.items():
        yield from _gold(config, split, known)
    first = "train_1" if problems.train_1[0] else "train_2"
    solved = _solved(config, splits[first])
    if config.weak.train:
        yield from _training("weak", config.weak.model, solved, "sft", config.weak.train)
    else:
        yield _replies(config, config.weak.model, solved[:ASKED])
    yield _context(config, solved)
    yield from _training("strong", config.strong, solved, "sft", config.stage_one.train)
    for name, settings in config.stage_two.train.items() if config.stage_two else ():
        yield from _training(f"strong, {name}", config.strong, solved, settings.loss, settings)


def _gold(config: WeakToStrongConfig, split: str, known: QuestionsAndGold) -> Iterator[Finding]:
    """Check the grader on gold itself: every gold solution must be read, and grade as correct."""
    questions, gold = known
    if not questions:
        if split == "train_1" and config.weak.train is None:
            return
        yield _finding(f"{split}: questions", "fail", "none", "the run needs them", f"check the file of data.{split}")
        return
    solutions = [one for one in gold if one.solution.strip()]
    # OlympicArena's solutions are prose that states no boxed answer.
    stating = solutions if config.key != OLYMPICARENA else []
    needed = {"train_1": config.weak.train is not None, "train_2": "ceiling" in config.arms, "test": False}[split]
    if needed:
        missing = len(questions) - len(solutions)
        yield _finding(
            f"{split}: gold solutions",
            "ok" if not missing else "warn" if solutions else "fail",
            f"{len(solutions)} of {len(questions)} questions have one",
            "a question without a solution trains neither the weak model nor the strong ceiling",
            f"fill the solutions of data.{split}, or leave out what trains on them",
        )
    if not gold:
        return
    grader = Grader.for_key(config.key, config.mode)
    graded = [grader.row(Answer(one.id, "", one.solution), one.answer) for one in stating]
    if graded:
        yield _shared(f"{split}: answer key", sum(bool(row["pred"]) for row in graded), len(graded), _key_text(config))
        right = sum(row["correct"] is True for row in graded)
    else:
        # No solution states an answer: gold is at least compared with itself.
        right = sum(grader.same(one.answer, one.answer) is True for one in gold)
    yield _shared(f"{split}: gold grades as correct", right, len(graded) or len(gold), f"mode {config.mode}")


def _key_text(config: WeakToStrongConfig) -> str:
    return "\\boxed{...}" if config.key == OLYMPICARENA else repr(parse_key(config.key).text)


def _shared(name: str, count: int, total: int, by: str) -> Finding:
    share = count / total
    status = "ok" if count == total else "warn" if share >= GRADED_SHARE else "fail"
    return _finding(
        name,
        status,
        f"{count} of {total} ({by})",
        "an answer that the grader cannot read or match counts against every arm, gold included",
        "check 'key', 'mode' and 'data.format' against a solution of the file",
    )


def _finding(name: str, status: Any, value: str, why: str, fix: str) -> Finding:
    return Finding(name=name, status=status, value=value, why=why, fix="" if status == "ok" else fix)


def _solved(config: WeakToStrongConfig, known: QuestionsAndGold) -> list[_Solved]:
    """Return the sample; where no question has a gold solution, two stand-ins take turns."""
    questions, gold = known
    solutions = {one.id: one.solution for one in gold if one.solution.strip()}
    if solutions:
        some = [question for question in questions if question.id in solutions][:SAMPLE]
        return [_Solved(one.id, prompt_of(one, config.data), solutions[one.id]) for one in some]
    given = STAND_INS if config.key == OLYMPICARENA else tuple(f"{parse_key(config.key).text} {n}" for n in (0, 1))
    return [
        _Solved(one.id, prompt_of(one, config.data), given[number % 2]) for number, one in enumerate(questions[:SAMPLE])
    ]


def _training(
    subject: str, spec: ModelSpec, solved: Sequence[_Solved], kind: Kind, settings: TrainingSettings
) -> Iterator[Finding]:
    """Yield the checks that run before a training, on the sample."""
    from strop.training.checks import examine
    from strop.training.running import quiet

    folder = model_folder(spec)
    rows = _pairs(solved) if isinstance(settings, PreferenceSettings) else _examples(solved)
    if not rows:
        yield _finding(
            f"{subject}: rows", "fail", "none", "there is nothing to train on", "check the solutions of the data"
        )
        return
    with tempfile.TemporaryDirectory(prefix="strop-doctor-") as place:
        table = Path(place) / "rows.jsonl"
        write_table(table, rows)
        try:
            with quiet():
                findings = examine(folder, table, kind, settings)
        except UserError as error:
            # Too many long rows, a template that does not fit: what would stop the training is a failed check here.
            value = error.what if error.value is None else f"{error.what}: {error.value}"
            yield _finding(f"{subject}: rows", "fail", value, error.why or "", error.fix or "see the value")
            return
    yield from (finding.model_copy(update={"name": f"{subject}: {finding.name}"}) for finding in findings)


def _examples(solved: Sequence[_Solved]) -> list[dict[str, Any]]:
    return [SupervisedExample(one.id, one.prompt, one.solution).to_row() for one in solved]


def _pairs(solved: Sequence[_Solved]) -> list[dict[str, Any]]:
    """Return each question with its own solution preferred to the next question's, where they differ."""
    return [
        PreferencePair(one.id, one.prompt, one.solution, other.solution).to_row()
        for one, other in zip(solved, [*solved[1:], *solved[:1]], strict=True)
        if one.solution != other.solution
    ]


def _replies(config: WeakToStrongConfig, spec: ModelSpec, solved: Sequence[_Solved]) -> Finding:
    """Ask a model that is used as it is, and see whether its answers can be read; the calls are not stored."""
    sampling = Sampling(max_tokens=config.decoding.max_tokens, stop=config.decoding.stop)
    name = f"weak: answers of {spec.model}"
    model = open_for(spec, config.machine)
    try:
        outcomes = [
            outcome for batch in model.complete([Call(one.prompt, sampling) for one in solved]) for _, outcome in batch
        ]
    except StropError as error:
        return _finding(name, "fail", str(error), "the run would stop here", "see the value")
    finally:
        model.close()
    failures = [outcome for outcome in outcomes if isinstance(outcome, CallFailure)]
    if failures:
        value = f"{len(failures)} of {len(solved)} calls failed ({failures[0].kind}: {failures[0].message[:120]})"
        return _finding(name, "fail", value, "the run would stop here", "check the model and its options")
    rule = AnswerRule.for_key(config.key, config.mode)
    texts = [clean_response(outcome.text) for outcome in outcomes if not isinstance(outcome, CallFailure)]
    read = sum(bool(rule.extract(text)) for text in texts)
    return _finding(
        name,
        "ok" if read == len(texts) else "warn" if read else "fail",
        f"{read} of {len(texts)} state a final answer ({_key_text(config)}); the first: {texts[0][-60:]!r}",
        "an answer without the key is neither agreed with nor shown as a demonstration",
        "check 'key' and 'decoding.max_tokens', or train the weak model",
    )


def _context(config: WeakToStrongConfig, solved: Sequence[_Solved]) -> Finding:
    """Compare the longest prompt with demonstrations, and room for its answer, with the model's context."""
    from strop.models.render import encode_prompts
    from strop.training.weights import load_tokenizer

    folder = model_folder(config.strong)
    length = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings")
    longest = sorted(solved, key=lambda one: len(one.prompt) + len(one.solution))[-config.demonstrations.count :]
    shown = [Demonstration(one.id, question_of(one.prompt), one.solution) for one in longest]
    asked = demonstration_block(shown) + max((one.prompt for one in solved), key=len)
    (tokens,) = encode_prompts(load_tokenizer(folder), [asked], chat=config.strong.chat)
    needed = len(tokens) + config.decoding.max_tokens
    fits = length is None or needed <= length
    return _finding(
        "strong: context",
        "ok" if fits else "warn",
        f"{len(tokens)} tokens of the longest {len(shown)} demonstrations and question, and "
        f"{config.decoding.max_tokens} for an answer, of {length or 'an unstated number'}",
        "past its context a model answers badly or not at all; demonstrations will be weak answers, maybe longer ones",
        "fewer demonstrations, or a smaller decoding.max_tokens",
    )
