"""The stages of a weak-to-strong run: inputs and settings in, one artifact out.

Gold never travels with questions: `draw_questions` and `draw_gold` make two artifacts, and a stage that builds a
training set is only ever handed the first. The exceptions carry `gold` among their parameters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from random import Random
from typing import Literal

from strop.errors import UserError
from strop.evaluation.answers import Mode
from strop.methods.weak_to_strong.agreement import AnswerRule, answer_mark
from strop.methods.weak_to_strong.algorithm import TopUp, stage_one, stage_two
from strop.methods.weak_to_strong.config import (
    Decoding,
    Demonstrations,
    FilesData,
    PairSettings,
    SelectionSettings,
    StoriesData,
)
from strop.methods.weak_to_strong.contrast import Role, Thresholds
from strop.methods.weak_to_strong.demonstrations import (
    Demonstration,
    first_correct,
    given_demonstrations,
    random_demonstrations,
)
from strop.methods.weak_to_strong.grading import Grader, gold_answers
from strop.methods.weak_to_strong.joining import join_by_id
from strop.methods.weak_to_strong.problems import draw_problems
from strop.methods.weak_to_strong.prompts import clean_response, demonstration_block, zero_shot_prompt
from strop.methods.weak_to_strong.selection import AnswerPair
from strop.models.asking import ask
from strop.models.placement import open_placed
from strop.models.protocol import Sampling, TextModel
from strop.records import Answer, Identifier, Question, SampledAnswers, SupervisedExample, align, read_table
from strop.runs import Artifact, Stage, stream
from strop.training.machine import Machine, Model, train_in
from strop.training.settings import PreferenceSettings, TrainingSettings

Data = StoriesData | FilesData
Split = Literal["train_1", "train_2", "test"]


def prompt_of(question: Question, data: Data) -> str:
    """Return the zero-shot prompt; an OlympicArena question is its own."""
    olympic = isinstance(data, FilesData) and data.format == "olympicarena"
    return question.text if olympic else zero_shot_prompt(question.text)


def draw_questions(stage: Stage, data: Data, *, seed: int) -> None:
    """Write `train_2.jsonl` and `test.jsonl`: ids and prompts, nothing else."""
    problems = draw_problems(data, seed=seed)
    for split, (questions, _) in (("train_2", problems.train_2), ("test", problems.test)):
        stage.write_rows(({"id": q.id, "prompt": prompt_of(q, data)} for q in questions), f"{split}.jsonl")


def draw_gold(stage: Stage, data: Data, *, seed: int) -> None:
    """Write what is known of each split: `SPLIT.jsonl` (id, gold) and `SPLIT_solutions.jsonl` (training rows)."""
    problems = draw_problems(data, seed=seed)
    missing = {question.id for question in problems.test[0]} - {known.id for known in problems.test[1]}
    if missing:
        raise UserError(
            f"{len(missing)} test questions have no gold answer",
            value=sorted(missing, key=str)[:5],
            why="every arm is graded on all of them",
            fix="give a file with answers as 'data.test'",
        )
    for split, (questions, gold) in (
        ("train_1", problems.train_1),
        ("train_2", problems.train_2),
        ("test", problems.test),
    ):
        prompts = {question.id: prompt_of(question, data) for question in questions}
        stage.write_rows(({"id": known.id, "gold": known.answer} for known in gold), f"{split}.jsonl")
        examples = (SupervisedExample(known.id, prompts[known.id], known.solution) for known in gold if known.solution)
        stage.write_rows((example.to_row() for example in examples), f"{split}_solutions.jsonl")


def open_for(model: Model, machine: Machine) -> TextModel:
    """Open a model of the configuration, or one that the run has trained, where and as `machine` says."""
    return open_placed(model.path("model") if isinstance(model, Artifact) else model, machine)


def _generate(
    stage: Stage, model: Model, prompts: list[str], sampling: Sampling, machine: Machine, *, samples: int = 1
) -> list[tuple[str, ...]]:
    opened = open_for(model, machine)
    try:
        with stage.progress(f"{stage.name}: {opened.name}", len(prompts) * samples) as advance:
            texts = ask(opened, prompts, sampling, samples=samples, store=stage.store, advance=advance)
    finally:
        opened.close()
    return [tuple(clean_response(text) for text in row) for row in texts]


def answer(
    stage: Stage,
    model: Model,
    questions: Artifact,
    *,
    split: Split,
    decoding: Decoding,
    machine: Machine,
    demonstrations: Artifact | None = None,
) -> None:
    """Answer every question of a split once, greedily, after the demonstrations if there are any."""
    rows = questions.rows(f"{split}.jsonl")
    shown = [] if demonstrations is None else [Demonstration(**row) for row in demonstrations.rows()]
    block = demonstration_block(shown)
    sampling = Sampling(max_tokens=decoding.max_tokens, stop=decoding.stop)
    texts = _generate(stage, model, [block + row["prompt"] for row in rows], sampling, machine)
    # The prompt that is kept, and learned from, is the zero-shot one.
    stage.write_rows(Answer(row["id"], row["prompt"], text).to_row() for row, (text,) in zip(rows, texts, strict=True))


def sample(
    stage: Stage,
    model: Model,
    questions: Artifact,
    *,
    split: Split,
    samples: int,
    temperature: float,
    decoding: Decoding,
    machine: Machine,
    seed: int,
) -> None:
    """Answer every question of a split several times, at a temperature."""
    rows = questions.rows(f"{split}.jsonl")
    sampling = Sampling(temperature, max_tokens=decoding.max_tokens, stop=decoding.stop, seed=seed)
    texts = _generate(stage, model, [row["prompt"] for row in rows], sampling, machine, samples=samples)
    stage.write_rows(
        SampledAnswers(row["id"], row["prompt"], row_texts).to_row() for row, row_texts in zip(rows, texts, strict=True)
    )


def choose_demonstrations(
    stage: Stage, weak: Artifact, settings: Demonstrations, *, key: str, mode: Mode, seed: int, gold: Artifact | None
) -> None:
    """Choose the weak model's answers that demonstrate the task; gold is used by `first_correct` only."""
    answers = [Answer.from_row(row) for row in weak.rows()]
    random = stream(seed, "demonstrations")
    if settings.choice == "ids":
        chosen = given_demonstrations(answers, ids=settings.ids)
    elif settings.choice == "random":
        chosen = random_demonstrations(answers, key=answer_mark(key), count=settings.count, random=random)
    else:
        if gold is None:
            raise UserError("'demonstrations.choice: first_correct' needs gold for train_2")
        correct = correct_ids(answers, gold, key=key, mode=mode)
        chosen = first_correct(answers, correct=correct, count=settings.count, random=random)
    stage.write_rows({"id": shown.id, "question": shown.question, "answer": shown.answer} for shown in chosen)


def correct_ids(answers: list[Answer], gold: Artifact, *, key: str, mode: Mode) -> set[Identifier]:
    """Return the ids of the answers that equal gold."""
    grader, known = Grader.for_key(key, mode), gold_answers(gold, "train_2")
    return {
        given.id for given in answers if given.id in known and grader.correct(given.response, known[given.id]) is True
    }


def fine_tune(
    stage: Stage,
    base: Model,
    examples: Artifact,
    *,
    file: str,
    settings: TrainingSettings,
    machine: Machine,
    seed: int,
) -> None:
    """Fine-tune `base` on one table of an artifact; the result is the folder `model`."""
    train_in(stage, base, examples.path(file), kind="sft", settings=settings, machine=machine, seed=seed)


def prefer(
    stage: Stage,
    base: Artifact,
    pairs: Artifact,
    *,
    settings: PreferenceSettings,
    machine: Machine,
    seed: int,
) -> None:
    """Optimise `base` on preference pairs; for DPO it is the reference too."""
    rows = pairs.path("pairs.jsonl")
    train_in(stage, base, rows, kind=settings.loss, settings=settings, machine=machine, seed=seed)


def shuffle_answers(stage: Stage, answers: Artifact, *, seed: int) -> None:
    """Give every question another question's answer: labels of the same kind that carry no information."""
    rows = answers.rows()
    responses = [row["response"] for row in rows]
    stream(seed, "shuffled").shuffle(responses)
    stage.write_rows({**row, "response": text} for row, text in zip(rows, responses, strict=True))


def _answers(artifact: Artifact) -> Iterator[Answer]:
    return (Answer.from_row(row) for row in artifact.rows())


def _names(left: Artifact, right: Artifact) -> tuple[str, str]:
    return left.name, right.name


def select(
    stage: Stage, weak: Artifact, icl: Artifact, *, settings: SelectionSettings, key: str, mode: Mode, seed: int
) -> None:
    """Stage I selection: write `weak.jsonl`, `icl.jsonl`, `hybrid.jsonl` and the `decisions`."""
    pairs = [
        AnswerPair(left, right) for left, right in join_by_id(_answers(weak), _answers(icl), names=_names(weak, icl))
    ]
    top_up = TopUp(settings.top_up, stream(seed, "top-up")) if settings.top_up else None
    selection = stage_one(pairs, AnswerRule.for_key(key, mode), allow_empty=settings.allow_empty, top_up=top_up)
    if not selection.weak:
        raise UserError(
            "the weak and the in-context answers agree on no question",
            value={str(decision): count for decision, count in selection.decisions.items()},
            fix="look at both answer stages, at 'key' and at 'demonstrations'",
        )
    for name, examples in (("weak", selection.weak), ("icl", selection.icl), ("hybrid", selection.hybrid)):
        stage.write_rows((example.to_row() for example in examples), f"{name}.jsonl")
    kept = {pair.weak.id for pair in (*selection.agreed, *selection.topped_up)}
    stage.write_rows(({"id": pair.weak.id, "kept": pair.weak.id in kept} for pair in pairs), "decisions.jsonl")
    stage.note(decisions={str(decision): count for decision, count in selection.decisions.items()})


def pair(stage: Stage, samples: Artifact, weak: Artifact, *, settings: PairSettings, key: str, mode: Mode) -> None:
    """Stage II pairs: the original weak model's chains against the samples of the Stage I model."""
    sampled = (SampledAnswers.from_row(row) for row in samples.rows())
    questions = join_by_id(_answers(weak), sampled, names=_names(weak, samples))
    roles: Counter[Role] = Counter()
    thresholds = Thresholds(_exact(settings.keep), _exact(settings.reject_weak))
    random = Random(settings.seed)
    built = list(
        stage_two(
            questions,
            AnswerRule.for_key(key, mode),
            pairs=settings.pairs,
            thresholds=thresholds,
            random=random,
            roles=roles,
        )
    )
    counts = {str(role): count for role, count in roles.items()}
    if not built:
        raise UserError("Stage II found no pair", value=counts, fix="lower 'stage_two.keep' or sample more answers")
    stage.write_rows((made.to_row() for made in built), "pairs.jsonl")
    stage.write_rows(({"role": role, "questions": count} for role, count in sorted(counts.items())), "roles.jsonl")


def _exact(share: float) -> Fraction:
    """Read 0.6 as six tenths, which its nearest float is not."""
    return Fraction(str(share))


def evaluate(
    stage: Stage,
    model: Model,
    questions: Artifact,
    gold: Artifact,
    *,
    key: str,
    mode: Mode,
    decoding: Decoding,
    machine: Machine,
    demonstrations: Artifact | None = None,
) -> None:
    """Answer the test questions and grade the answers against gold: `rows.jsonl` and `grades.jsonl`."""
    answer(
        stage,
        model,
        questions,
        split="test",
        decoding=decoding,
        machine=machine,
        demonstrations=demonstrations,
    )
    grader, known = Grader.for_key(key, mode), gold_answers(gold, "test")
    answers = (Answer.from_row(row) for row in read_table(stage.folder / "rows.jsonl"))
    stage.write_rows((grader.row(given, known[given.id]) for given in answers), "grades.jsonl")


def examine_labels(
    stage: Stage, weak: Artifact, icl: Artifact, selection: Artifact, gold: Artifact, *, key: str, mode: Mode
) -> None:
    """Grade the labels of one iteration against gold, for the report only: `labels.jsonl`, one row a question."""
    grader, known = Grader.for_key(key, mode), gold_answers(gold, "train_2")
    kept = {row["id"]: row["kept"] for row in selection.rows("decisions.jsonl")}
    rows = []
    for left, right in align(weak.rows(), icl.rows(), names=_names(weak, icl)):
        identifier, weak_text, icl_text = left["id"], left["response"], right["response"]
        if identifier in known:
            rows.append(
                {
                    "id": identifier,
                    "prompt": left["prompt"],
                    "kept": kept[identifier],
                    "weak": weak_text,
                    "icl": icl_text,
                    "weak_correct": grader.correct(weak_text, known[identifier]),
                    "icl_correct": grader.correct(icl_text, known[identifier]),
                }
            )
    stage.write_rows(rows, "labels.jsonl")


def examine_pairs(stage: Stage, pairs: Artifact, gold: Artifact, *, key: str, mode: Mode) -> None:
    """Grade both sides of every pair against gold, for the report only: `sides.jsonl`."""
    grader, known = Grader.for_key(key, mode), gold_answers(gold, "train_2")
    stage.write_rows(
        (
            {
                "id": row["id"],
                **{f"{side}_correct": grader.correct(row[side], known[row["id"]]) for side in ("chosen", "rejected")},
            }
            for row in pairs.rows("pairs.jsonl")
            if row["id"] in known
        ),
        "sides.jsonl",
    )


def count_passes(stage: Stage, samples: Artifact, gold: Artifact, *, key: str, mode: Mode) -> None:
    """Grade the samples of every test question, for pass@k: `passes.jsonl`; a flag is null where it is not graded."""
    grader, known = Grader.for_key(key, mode), gold_answers(gold, "test")
    rows = []
    for row in samples.rows():
        given = SampledAnswers.from_row(row)
        rows.append({"id": given.id, "flags": [grader.correct(text, known[given.id]) for text in given.responses]})
    stage.write_rows(rows, "passes.jsonl")
