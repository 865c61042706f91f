"""What a weak-to-strong run needs, before anything is spent.

The recipe itself is executed with a recorder in the place of the run, so the plan has the recipe's stages in the
recipe's order. The recorder calls no model and loads no weights: it counts what is known and bounds what is not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, floor
from pathlib import Path
from typing import Any, cast

import yaml

from strop.errors import UserError
from strop.methods.weak_to_strong.config import FilesData, PairSettings, WeakToStrongConfig
from strop.methods.weak_to_strong.preflight import preflight
from strop.methods.weak_to_strong.problems import Problems, draw_problems
from strop.methods.weak_to_strong.recipe import SeedRun
from strop.methods.weak_to_strong.stages import (
    Split,
    answer,
    draw_gold,
    evaluate,
    fine_tune,
    pair,
    prefer,
    prompt_of,
    sample,
    select,
    shuffle_answers,
)
from strop.models.lengths import (
    CHARACTERS_PER_TOKEN,
    NOTHING,
    Lengths,
    Range,
    fast_tokenizer,
)
from strop.models.protocol import Call, Sampling
from strop.models.spec import ModelSpec
from strop.runs import Artifact, CallStore, Run
from strop.runs.history import read_history
from strop.runs.store import run_id
from strop.runs.workspace import store_path
from strop.training.machine import Model
from strop.training.planning import PlannedStage, Totals, call_revisions, training_steps
from strop.training.settings import TrainingSettings

PAIRS_PER_QUESTION = {"gsm8k": 1, "math": 3}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run needs.

    Attributes:
        stages: The stages of the first seed, and the stage that compares the seeds.
        one_seed: What the first seed needs.
        all_seeds: What all seeds need.
        notes: What the figures rest on, for people.
        seeds: How many seeds there are.
    """

    stages: tuple[PlannedStage, ...]
    one_seed: Totals
    all_seeds: Totals
    notes: tuple[str, ...]
    seeds: int


def plan(config: WeakToStrongConfig, *, workspace: Path) -> Plan:
    """Return what a run of `config` needs, after a check that its models and files are there.

    Args:
        config: The settings of the run.
        workspace: Where its calls would be stored; it need not exist, and is not changed.

    Raises:
        UserError: A model or a file is missing, or a model that is to be trained has no weights here.
    """
    preflight(config)
    path = store_path(workspace)
    if path.is_file():
        with CallStore(path) as store:
            recorded = [_record(config, seed, store) for seed in config.seeds]
    else:
        recorded = [_record(config, seed, None) for seed in config.seeds]
    times = earlier_times(config, workspace)
    stages = tuple(replace(stage, seconds=times.get(stage.stage)) for stage in [*recorded[0], PlannedStage("results")])
    one, every = Totals.of(recorded[0]), Totals.of([stage for seed in recorded for stage in seed])
    return Plan(stages, one, every, tuple(_notes(config, stages, one, every)), len(config.seeds))


def _record(config: WeakToStrongConfig, seed: int, store: CallStore | None) -> list[PlannedStage]:
    recorder = _Recorder(config, seed, store)
    # The recipe knows its run by `stage` alone.
    SeedRun(config, cast(Run, recorder), seed).experiment()
    return recorder.stages


@dataclass(frozen=True, slots=True)
class _Planned(Artifact):
    """An artifact that does not exist: how many rows its tables have, and which model it is made from."""

    tables: dict[str, Range] = field(default_factory=dict)
    base: ModelSpec | None = None


@dataclass
class _Recorder:
    """Stands in the place of a run and notes what each stage would need."""

    config: WeakToStrongConfig
    seed: int
    store: CallStore | None
    stages: list[PlannedStage] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.problems: Problems = draw_problems(self.config.data, seed=self.seed)
        for split in ("train_2", "test"):
            if not getattr(self.problems, split)[0]:
                raise UserError(f"there is no question in data.{split}")
        self.lengths = Lengths()
        self.estimates: dict[Callable[..., None], Callable[..., _Planned | None]] = {
            answer: self._answer,
            evaluate: self._evaluate,
            sample: self._sample,
            fine_tune: self._fine_tune,
            prefer: self._prefer,
            draw_gold: self._gold,
            select: self._select,
            shuffle_answers: self._shuffle,
            pair: self._pair,
        }

    def stage(self, function: Callable[..., None], *inputs: Any, name: str, **settings: Any) -> Artifact:
        """Note what a stage needs, and return an artifact that stands for what it would make."""
        name = name.removeprefix(f"seed{self.seed}-")
        before = len(self.stages)
        estimate = self.estimates.get(function)
        made = None if estimate is None else estimate(*inputs, name=name, **settings)
        if len(self.stages) == before:
            self.stages.append(PlannedStage(name))
        return made or _artifact(name)

    def prompts(self, split: Split) -> list[str]:
        questions, _ = getattr(self.problems, split)
        return [prompt_of(question, self.config.data) for question in questions]

    def _answer(
        self,
        model: Model,
        _questions: Artifact,
        *,
        split: Split,
        name: str,
        demonstrations: Artifact | None = None,
        **_: Any,
    ) -> _Planned:
        prompts = self.prompts(split)
        shown = NOTHING if demonstrations is None else self._demonstrations(_base(model))
        self._calls(name, model, prompts, samples=1, shown=shown, known=demonstrations is None)
        return _artifact(name, {"rows.jsonl": Range.exactly(len(prompts))})

    def _evaluate(self, model: Model, questions: Artifact, _gold: Artifact, *, name: str, **settings: Any) -> _Planned:
        return self._answer(model, questions, split="test", name=name, **settings)

    def _sample(
        self, model: Model, _questions: Artifact, *, split: Split, samples: int, name: str, **_: Any
    ) -> _Planned:
        self._calls(name, model, self.prompts(split), samples=samples)
        return _artifact(name)

    def _calls(
        self,
        name: str,
        model: Model,
        prompts: Sequence[str],
        *,
        samples: int,
        shown: Range = NOTHING,
        known: bool = False,
    ) -> None:
        unique = list(dict.fromkeys(prompts))
        calls = len(unique) * samples
        each = self.lengths.total(_base(model), unique).plus(shown.times(len(unique)))
        stored = self._stored(model, unique) if known and samples == 1 and isinstance(model, ModelSpec) else None
        self.stages.append(
            PlannedStage(
                name,
                model=_name(model),
                calls=calls,
                prompt_tokens=each.times(samples),
                completion_tokens=Range(calls, calls * self.config.decoding.max_tokens),
                stored=stored,
                base=_base(model).model,
            )
        )

    def _demonstrations(self, spec: ModelSpec) -> Range:
        """Bound the tokens of the demonstrations: the weak model's answers are not known yet."""
        asked = [self.lengths.total(spec, [prompt]) for prompt in self.prompts("train_2")]
        low, high = min(one.low for one in asked), max(one.high for one in asked)
        count = len(self.config.demonstrations.ids) or self.config.demonstrations.count
        return Range(low + 1, high + self.config.decoding.max_tokens).times(count)

    def _stored(self, model: ModelSpec, prompts: Sequence[str]) -> int | None:
        revisions = call_revisions(model, self.config.machine)
        if not revisions:
            return None
        if self.store is None:
            return 0
        decoding = self.config.decoding
        sampling = Sampling(max_tokens=decoding.max_tokens, stop=decoding.stop)
        calls = [Call(prompt, sampling) for prompt in prompts]
        return max(len(self.store.get_many([call.key(one) for call in calls])) for one in revisions)

    def _fine_tune(
        self, base: Model, examples: Artifact, *, file: str, settings: TrainingSettings, name: str, **_: Any
    ) -> _Planned:
        rows = examples.tables[file] if isinstance(examples, _Planned) else NOTHING
        if rows.high == 0:
            raise UserError(
                f"the stage {name!r} would have no row to train on",
                why="the data hold no gold solution for it",
                fix="fill data.train_1 with solutions; without gold for train_2, leave 'ceiling' out of 'arms'",
            )
        self.stages.append(PlannedStage(name, model=_name(base), steps=training_steps(settings, rows)))
        return _artifact(name, base=_base(base))

    def _prefer(
        self, base: Artifact, pairs: Artifact, *, settings: TrainingSettings, name: str, **kept: Any
    ) -> _Planned:
        return self._fine_tune(base, pairs, file="pairs.jsonl", settings=settings, name=name, **kept)

    def _gold(self, *_: Any, name: str, **__: Any) -> _Planned:
        solved = {
            f"{split}_solutions.jsonl": Range.exactly(sum(bool(known.solution) for known in gold))
            for split, (_, gold) in (("train_1", self.problems.train_1), ("train_2", self.problems.train_2))
        }
        return _artifact(name, solved)

    def _select(self, *_: Any, name: str, **__: Any) -> _Planned:
        chosen = Range(1, len(self.problems.train_2[0]))
        rows = {"weak.jsonl": chosen, "icl.jsonl": chosen, "hybrid.jsonl": chosen.times(2)}
        return _artifact(name, rows)

    def _shuffle(self, answers: Artifact, *, name: str, **_: Any) -> _Planned:
        return _artifact(name, answers.tables if isinstance(answers, _Planned) else {})

    def _pair(self, *_: Any, settings: PairSettings, name: str, **__: Any) -> _Planned:
        most = len(self.problems.train_2[0]) * PAIRS_PER_QUESTION[settings.pairs]
        return _artifact(name, {"pairs.jsonl": Range(1, most)})


def _artifact(name: str, rows: dict[str, Range] | None = None, base: ModelSpec | None = None) -> _Planned:
    return _Planned(name, Path(name), "", rows or {}, base)


def _base(model: Model) -> ModelSpec:
    """Return the model whose tokenizer a planned model has."""
    base = model if isinstance(model, ModelSpec) else model.base if isinstance(model, _Planned) else None
    assert base is not None, "the recipe asks and trains models only"
    return base


def _name(model: Model) -> str:
    return model.model if isinstance(model, ModelSpec) else model.name


def earlier_times(config: WeakToStrongConfig, workspace: Path) -> dict[str, Range]:
    """Return the seconds that each stage took, by name, in runs of the workspace that differ in seeds and machine only.

    Stages that answered from the store are left out: they took no time worth telling.
    """
    if not workspace.is_dir():
        return {}
    wanted, times = _comparable(config.model_dump(mode="json")), defaultdict(list)
    for folder in sorted(workspace.iterdir()):
        resolved = folder / "config.resolved.yaml"
        if run_id(folder) is None or not resolved.is_file():
            continue
        if _comparable(yaml.safe_load(resolved.read_text(encoding="utf-8"))) != wanted:
            continue
        for stage in read_history(folder).stages:
            if stage.seconds is not None and not stage.reused:
                times[_without_seed(stage.stage)].append(stage.seconds)
    return {name: Range(floor(min(known)), ceil(max(known))) for name, known in times.items()}


def _comparable(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in ("seeds", "machine")}


def _without_seed(stage: str) -> str:
    """Return ``weak-answers`` for ``04-seed1-weak-answers``."""
    name = stage.partition("-")[2]
    return name.partition("-")[2] if name.startswith("seed") else name


def _notes(config: WeakToStrongConfig, stages: Sequence[PlannedStage], one: Totals, every: Totals) -> Iterator[str]:
    yield f"Seed {config.seeds[0]} (shown): {one}."
    count = len(config.seeds)
    yield f"All {count} seeds: {every}." if count > 1 else "There is one seed: no interval over seeds can be given."
    if isinstance(config.data, FilesData) and count > 1:
        yield "Seeds share their questions: a call that a base model answered greedily for one is not asked again."
    guessed = {model.model for model in (config.weak.model, config.strong) if fast_tokenizer(model) is None}
    if guessed:
        fewest, most = CHARACTERS_PER_TOKEN
        names = " and ".join(sorted(guessed))
        yield f"Prompt tokens of {names} are bounded by {fewest} and {most} characters a token."
    yield (
        "Completion tokens are between one and decoding.max_tokens an answer. Prompts with demonstrations hold weak "
        "answers, and training sets are chosen by answers: both are bounded."
    )
    yield (
        "Only zero-shot calls of a model that the run does not train are known before it; whether others are stored "
        "shows when the run asks them."
    )
    told = [stage.seconds for stage in stages if stage.seconds is not None]
    if told:
        yield (
            f"{len(told)} of {len(stages)} stages took {Range.total(told)} s a seed in earlier runs of this workspace "
            "with these settings, on whatever machine that was."
        )
    else:
        yield "No time is given: no run of this workspace had these settings; one with a single seed would tell."
