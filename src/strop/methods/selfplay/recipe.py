"""One model plays patient and therapist and learns from its own sessions (MentalArena, arXiv 2410.06845).

Each iteration holds sessions with the model of the one before, makes a training set of what came of them, and
fine-tunes that model on it. Development patients, whom no training has seen, say which iteration is best; benchmarks
are asked at the end and choose nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from strop.methods.selfplay.benchmarking import compare_models, examine
from strop.methods.selfplay.config import SelfplayConfig
from strop.methods.selfplay.document import document
from strop.methods.selfplay.evidence import BASE, Evidence, Iteration
from strop.methods.selfplay.looking import CHOSEN, choose_iteration, look, watch
from strop.methods.selfplay.preflight import Cleared, preflight
from strop.methods.selfplay.stages import Clinic, Holding, collect_examples, draw_patients, examples_in, learn, play
from strop.methods.selfplay.training_set import Side
from strop.records.document import Document
from strop.runs import Artifact, Run, derive_seed
from strop.training.machine import Model


def selfplay(config: SelfplayConfig, run: Run) -> Document:
    """Run the method and tell what came out."""
    cleared = preflight(config)
    return document(config, run, cleared, SelfplayRun(config, run, cleared).evidence())


@dataclass(frozen=True)
class SelfplayRun:
    """One run of the method."""

    config: SelfplayConfig
    run: Run
    cleared: Cleared

    def evidence(self) -> Evidence:
        """Run every stage in the paper's order, and return what the report is made from."""
        c = self.config
        patients = self.stage(draw_patients, c.patients, seed=c.seed, name="patients")
        model: Model = c.model
        iterations: list[Iteration] = []
        for number in range(1, c.iterations + 1):
            made = self.iteration(number, model, patients, iterations)
            iterations.append(made)
            if made.model is None:
                break
            model = made.model
        held = [one.played for one in iterations]
        if iterations[-1].model is not None:
            number = len(iterations) + 1
            held.append(self.sessions(model, patients, number=number, sides=("development",), name="last-sessions"))

        models: dict[str, Model] = {BASE: c.model, **{one.name: one.model for one in iterations if one.model}}
        choice = self.choice(models, held)
        return Evidence(patients, tuple(iterations), choice, *self.examined(models, choice))

    def iteration(self, number: int, model: Model, patients: Artifact, before: list[Iteration]) -> Iteration:
        """Hold the sessions of a round, look at them, and train on what came of them."""
        c, name = self.config, f"iteration{number}"
        sides: tuple[Side, ...] = ("train", "development")
        played = self.sessions(model, patients, number=number, sides=sides, name=f"{name}-sessions")
        examples = self.stage(
            collect_examples,
            played,
            settings=c.training_set,
            examination=c.examination,
            name=f"{name}-examples",
        )
        looked = self.stage(
            look,
            played,
            examples,
            [one.examples for one in before],
            model if c.train is not None else None,
            embedder=c.matcher.embedder,
            seed=self.seed("look"),
            name=f"{name}-looked",
        )
        watched = None
        if before:
            first = before[0]
            watched = self.stage(
                watch,
                played,
                first.played,
                (looked, first.looked),
                limits=c.limits,
                iteration=number,
                seed=self.seed("watch"),
                name=f"{name}-watch",
            )
        if c.train is None or not examples_in(examples):
            return Iteration(number, played, examples, looked, watched)
        trained = self.stage(
            learn,
            model,
            examples,
            settings=c.train,
            machine=c.machine,
            seed=self.seed("training", number),
            name=f"{name}-model",
        )
        return Iteration(number, played, examples, looked, watched, trained)

    def sessions(
        self, model: Model, patients: Artifact, *, number: int, sides: tuple[Side, ...], name: str
    ) -> Artifact:
        """Let a model hold sessions with the patients of the given sides."""
        c = self.config
        # Development sessions draw with the same noise whatever the round: they differ by the model alone.
        held = {
            "train": Holding("train", c.patients.passes, self.seed("sessions", number)),
            "development": Holding("development", 1, self.seed("development")),
        }
        return self.stage(
            play,
            model,
            patients,
            clinic=Clinic.of(c),
            holding=tuple(held[side] for side in sides),
            iteration=number,
            side_by_side=c.side_by_side,
            name=name,
        )

    def choice(self, models: dict[str, Model], held: list[Artifact]) -> Artifact | None:
        """Let the development patients choose the best model; None where nothing was trained.

        Each model has met them in the round after the one that made it, the last model at the end.
        """
        if len(models) == 1:
            return None
        development = dict(zip(models, held, strict=True))
        return self.stage(choose_iteration, development, seed=self.seed("choice"), name="choice")

    def examined(
        self, models: dict[str, Model], choice: Artifact | None
    ) -> tuple[dict[str, Artifact], Artifact | None]:
        """Ask the benchmarks of the base and of the chosen model, or of all, and compare with the base."""
        c = self.config
        if not c.examination.tasks:
            return {}, None
        chosen = BASE if choice is None else choice.json(CHOSEN)["chosen"]
        # Where the base is best, the last iteration still shows what training has done.
        wanted = models if c.examination.every_iteration else dict.fromkeys((BASE, chosen, list(models)[-1]))
        answered = {
            name: self.stage(
                examine, models[name], settings=c.examination, placement=c.machine, name=f"benchmarks-{name}"
            )
            for name in wanted
        }
        compared = self.stage(compare_models, answered, base=BASE, name="benchmarks")
        return answered, compared

    def seed(self, *names: str | int) -> int:
        """Return the seed of a named part of the run."""
        return derive_seed(self.config.seed, *map(str, names))

    def stage(self, function: Callable[..., None], *inputs: Any, name: str, **settings: Any) -> Artifact:
        """Run a stage."""
        return self.run.stage(function, *inputs, name=name, **settings)
