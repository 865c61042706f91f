"""Weak-to-Strong Reasoning, from questions without labels to a strong model that has learned from a weak one.

The paper's algorithm in the paper's order (arXiv 2407.13647, section 3), one stage a line, with the arms that a
scientist needs beside it. Every seed is an experiment of its own; all of them meet in the results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from strop.methods.weak_to_strong.config import WeakToStrongConfig
from strop.methods.weak_to_strong.document import document
from strop.methods.weak_to_strong.preflight import preflight
from strop.methods.weak_to_strong.products import products
from strop.methods.weak_to_strong.results import Experiment, Iteration, summarise
from strop.methods.weak_to_strong.stages import (
    answer,
    choose_demonstrations,
    count_passes,
    draw_gold,
    draw_questions,
    evaluate,
    examine_labels,
    examine_pairs,
    fine_tune,
    pair,
    prefer,
    sample,
    select,
    shuffle_answers,
)
from strop.records.document import Document
from strop.runs import Artifact, Run, derive_seed
from strop.training.machine import Model
from strop.training.settings import TrainingSettings


def weak_to_strong(config: WeakToStrongConfig, run: Run) -> Document:
    """Run the whole method for every seed, then compare the arms and tell what came out."""
    preflight(config)
    experiments = [SeedRun(config, run, seed).experiment() for seed in config.seeds]
    results = run.stage(
        summarise,
        experiments,
        settings=config.evaluation,
        final=_final(config),
        same_items=config.data.kind == "files",
        name="results",
    )
    made = products(config, run.artifacts, final=_final(config))
    return replace(document(config, results, experiments), products=tuple(made))


def _final(config: WeakToStrongConfig) -> str:
    """Return the arm that is the method's result: the first preference optimisation, else the last hybrid model."""
    return next(iter(config.stage_two.train)) if config.stage_two else f"iteration{config.stage_one.iterations}_hybrid"


@dataclass(frozen=True)
class SeedRun:
    """One experiment: the method and its comparison arms under one seed."""

    config: WeakToStrongConfig
    run: Run
    seed: int

    def experiment(self) -> Experiment:
        """Run the method and its comparison arms, and return what the results are computed from."""
        c = self.config
        questions = self.stage(draw_questions, c.data, seed=self.seed, name="questions")
        gold = self.stage(draw_gold, c.data, seed=self.seed, name="gold")

        # The weak model m, its answers to all questions, and the strong model's answers after four of them.
        weak: Model = c.weak.model
        if c.weak.train:
            weak = self.train(weak, gold, "train_1_solutions.jsonl", settings=c.weak.train, name="weak-model")
        weak_answers = self.answer(weak, questions, name="weak-answers")
        shown = self.stage(
            choose_demonstrations,
            weak_answers,
            c.demonstrations,
            **self.grading,
            seed=self.seed,
            gold=gold if c.demonstrations.choice == "first_correct" else None,
            name="demonstrations",
        )
        icl_answers = self.answer(c.strong, questions, demonstrations=shown, name="icl-answers")

        tested: dict[str, Artifact] = {"floor": self.test(weak, questions, gold, name="floor")}
        if "icl" in c.arms:
            tested["icl"] = self.test(c.strong, questions, gold, demonstrations=shown, name="icl")

        # Stage I: learn from agreement. Every iteration starts from the base model.
        iterations: list[Iteration] = []
        plus: Artifact | None = None
        left, right = weak_answers, icl_answers
        for number in range(1, c.stage_one.iterations + 1):
            name = f"iteration{number}"
            chosen = self.stage(
                select,
                left,
                right,
                settings=c.stage_one.selection,
                **self.grading,
                seed=self.seed,
                name=f"{name}-selection",
            )
            labels = self.stage(examine_labels, left, right, chosen, gold, **self.grading, name=f"{name}-labels")
            models = {
                source: self.train(c.strong, chosen, f"{source}.jsonl", name=f"{name}-{source}")
                for source in ("weak", "icl", "hybrid")
            }
            for source, model in models.items():
                tested[f"{name}_{source}"] = self.test(model, questions, gold, name=f"{name}-{source}")
            iterations.append(Iteration(number, chosen, labels))
            plus = models["hybrid"]
            if number < c.stage_one.iterations:
                left = self.answer(models["weak"], questions, name=f"{name}-weak-answers")
                right = self.answer(models["icl"], questions, name=f"{name}-icl-answers")
        assert plus is not None, "the configuration asks for at least one iteration"

        # Stage II: contrast the original weak answers with the votes of the last hybrid model.
        sides = self.stage_two(plus, questions, weak_answers, gold, tested) if c.stage_two else None
        self.comparison_arms(questions, gold, weak_answers, tested)
        return Experiment(self.seed, tested, tuple(iterations), sides, self.passes(plus, questions, gold))

    def stage_two(
        self, plus: Artifact, questions: Artifact, weak_answers: Artifact, gold: Artifact, tested: dict[str, Artifact]
    ) -> Artifact:
        """Run Stage II from the Stage I model, test what it makes, and return its graded pairs."""
        settings = self.config.stage_two
        assert settings is not None
        samples = self.sample(plus, questions, split="train_2", samples=settings.samples, name="samples")
        pairs = self.stage(pair, samples, weak_answers, settings=settings.pairing, **self.grading, name="pairs")
        for name, training in settings.train.items():
            pro = self.stage(
                prefer,
                plus,
                pairs,
                settings=training,
                machine=self.config.machine,
                seed=derive_seed(self.seed, "preference"),
                name=name,
            )
            tested[name] = self.test(pro, questions, gold, name=name)
        return self.stage(examine_pairs, pairs, gold, **self.grading, name="pair-sides")

    def comparison_arms(
        self, questions: Artifact, gold: Artifact, weak_answers: Artifact, tested: dict[str, Artifact]
    ) -> None:
        """Train and test what the method is compared with; every arm starts from the strong base."""
        c = self.config
        rows: dict[str, tuple[Artifact, str]] = {}
        if "naive" in c.arms:
            rows["naive"] = (weak_answers, "rows.jsonl")
        if "self_labels" in c.arms:
            own = self.answer(c.strong, questions, name="self-answers")
            tested["zero_shot"] = self.test(c.strong, questions, gold, name="zero-shot")
            rows["self_labels"] = (own, "rows.jsonl")
        if "shuffled" in c.arms:
            mixed = self.stage(shuffle_answers, weak_answers, seed=self.seed, name="shuffled-answers")
            rows["shuffled"] = (mixed, "rows.jsonl")
        if "ceiling" in c.arms:
            rows["ceiling"] = (gold, "train_2_solutions.jsonl")
        for arm, (examples, file) in rows.items():
            model = self.train(c.strong, examples, file, name=arm.replace("_", "-"))
            tested[arm] = self.test(model, questions, gold, name=arm.replace("_", "-"))

    def passes(self, plus: Artifact, questions: Artifact, gold: Artifact) -> Artifact | None:
        """Sample answers to the test questions and count the correct ones; None where pass@k is left out."""
        if not self.config.evaluation.pass_at:
            return None
        most = max(self.config.evaluation.pass_at)
        samples = self.sample(plus, questions, split="test", samples=most, name="test-samples")
        return self.stage(count_passes, samples, gold, **self.grading, name="passes")

    @property
    def grading(self) -> dict[str, Any]:
        """How final answers are read and compared, for every stage that does."""
        return {"key": self.config.key, "mode": self.config.mode}

    @property
    def generation(self) -> dict[str, Any]:
        """How answers are generated, for every stage that asks a model."""
        return {"decoding": self.config.decoding, "machine": self.config.machine}

    def stage(self, function: Callable[..., None], *inputs: Any, name: str, **settings: Any) -> Artifact:
        """Run a stage under this seed's name."""
        return self.run.stage(function, *inputs, name=f"seed{self.seed}-{name}", **settings)

    def answer(self, model: Model, questions: Artifact, *, name: str, **settings: Any) -> Artifact:
        """Answer the questions of train_2 greedily."""
        return self.stage(answer, model, questions, split="train_2", **self.generation, name=name, **settings)

    def sample(self, model: Model, questions: Artifact, *, split: str, samples: int, name: str) -> Artifact:
        """Answer the questions of a split several times."""
        temperature = self.config.stage_two.temperature if self.config.stage_two else 1.0
        seed = derive_seed(self.seed, "sampling", split)
        return self.stage(
            sample,
            model,
            questions,
            split=split,
            samples=samples,
            temperature=temperature,
            seed=seed,
            **self.generation,
            name=name,
        )

    def train(
        self, base: Model, rows: Artifact, file: str, *, name: str, settings: TrainingSettings | None = None
    ) -> Artifact:
        """Fine-tune a base; with Stage I's settings unless others are given."""
        return self.stage(
            fine_tune,
            base,
            rows,
            file=file,
            settings=settings or self.config.stage_one.train,
            machine=self.config.machine,
            seed=derive_seed(self.seed, "training"),
            name=name,
        )

    def test(self, model: Model, questions: Artifact, gold: Artifact, *, name: str, **settings: Any) -> Artifact:
        """Answer and grade the test questions."""
        return self.stage(
            evaluate, model, questions, gold, **self.grading, **self.generation, name=f"test-{name}", **settings
        )
