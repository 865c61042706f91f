"""Mixture-of-head attention on a model that one has, beside what it must beat (MoH, arXiv 2410.11842).

One pass over training text says what each head matters. The dense model is converted into one whose tokens choose
their heads, and into one that has lost the others for good; both go on with pre-training, and so does the dense model
itself, on the same text for the same steps. Held-back text says what each has become. The paper lacks the last two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from strop.methods.mixture_of_heads.arms import ARMS, CONTROL, START, arm_name
from strop.methods.mixture_of_heads.config import FromScratch, MixtureOfHeadsConfig
from strop.methods.mixture_of_heads.document import document
from strop.methods.mixture_of_heads.evidence import Evidence
from strop.methods.mixture_of_heads.examining import examine
from strop.methods.mixture_of_heads.preflight import preflight
from strop.methods.mixture_of_heads.results import summarise
from strop.methods.mixture_of_heads.scratch import make_scratch, route_scratch
from strop.methods.mixture_of_heads.stages import (
    Reading,
    convert_heads,
    draw_text,
    measure_heads,
    measure_jumps,
    read_held_back,
    train_arm,
)
from strop.records.document import Document
from strop.runs import Artifact, Run, derive_seed
from strop.training.machine import Model
from strop.training.settings import ContinueSettings


def mixture_of_heads(config: MixtureOfHeadsConfig, run: Run) -> Document:
    """Run the method and tell what came out."""
    preflight(config)
    return document(config, run, HeadsRun(config, run).evidence())


@dataclass(frozen=True)
class HeadsRun:
    """One run of the method."""

    config: MixtureOfHeadsConfig
    run: Run

    def evidence(self) -> Evidence:
        """Run every stage, and return what the report is made from."""
        c = self.config
        text = self.stage(draw_text, c.text, seed=c.seeds[0], name="text")
        made: dict[str, Any] = {"text": text}
        if c.model is not None and c.train is not None:
            made |= self.converted(c.model, c.train, text)
        if c.from_scratch is not None:
            made["scratch"] = self.from_scratch(c.from_scratch, text)
        results = self.stage(
            summarise,
            text,
            made.get("start"),
            trained=made.get("trained", {}),
            starts=made.get("starts", {}),
            scratch=made.get("scratch", {}),
            seed=c.seeds[0],
            name="results",
        )
        return Evidence(**made, results=results)

    def converted(self, model: Model, train: ContinueSettings, text: Artifact) -> dict[str, Any]:
        """Convert the model into every arm and go on with the pre-training of all of them."""
        c, reading = self.config, self.reading(train)
        if c.stage_one is not None:
            model = self.train(model, text, c.stage_one, seed=c.seeds[0], name="stage-one", keep=True)
        start = self.stage(read_held_back, model, text, reading=reading, machine=c.machine, name=START)
        measured = self.stage(
            measure_heads,
            model,
            text,
            blocks=c.calibration,
            length=train.max_length,
            machine=c.machine,
            name="importance",
        )
        jumps = {
            name: self.stage(
                measure_jumps,
                model,
                text,
                measured,
                heads=heads,
                reading=reading,
                machine=c.machine,
                name=f"jump-{name}",
            )
            for name, heads in (c.heads.items() if c.first_choices else ())
        }
        arms: dict[str, Model] = {CONTROL: model}
        starts: dict[str, Artifact] = {}
        for name, heads in c.heads.items():
            for arm in ARMS:
                arms[arm_name(name, arm)] = self.stage(
                    convert_heads,
                    model,
                    measured,
                    heads=heads,
                    arm=arm,
                    beta=train.balance,
                    name=f"{arm_name(name, arm)}-model",
                )
        for name, one in list(arms.items())[1:]:
            starts[name] = self.stage(
                read_held_back, one, text, reading=reading, machine=c.machine, name=f"{name}-start"
            )
        trained = self.trained(arms, train, text)
        final = {name: of_seeds[0] for name, of_seeds in trained.items()} if c.examination.tasks else {}
        examined = {
            name: self.stage(examine, one, settings=c.examination, placement=c.machine, name=f"{name}-benchmarks")
            for name, one in final.items()
        }
        return {"start": start, "starts": starts, "trained": trained, "jumps": jumps, "examined": examined}

    def trained(
        self, arms: Mapping[str, Model], train: ContinueSettings, text: Artifact
    ) -> dict[str, tuple[Artifact, ...]]:
        """Train every arm once for each seed, the dense control of a seed before the arms that may learn from it."""
        c = self.config
        done: dict[str, tuple[Artifact, ...]] = {}
        for seed in c.seeds:
            teacher: Model | None = None
            for name, model in arms.items():
                keep = seed == c.seeds[0] or (name == CONTROL and c.teacher == "control")
                made = self.train(model, text, train, seed=seed, name=f"seed{seed}-{name}", keep=keep, teacher=teacher)
                if name == CONTROL and train.distillation is not None:
                    teacher = made if c.teacher == "control" else model
                done[name] = (*done.get(name, ()), made)
        return done

    def from_scratch(self, settings: FromScratch, text: Artifact) -> dict[str, tuple[Artifact, ...]]:
        """Train small models from the same random weights, dense and with routed heads, on equal tokens."""
        done: dict[str, tuple[Artifact, ...]] = {}
        for seed in self.config.seeds:
            dense = self.stage(make_scratch, text, settings=settings, seed=seed, name=f"seed{seed}-scratch-start")
            models = {CONTROL: dense}
            for share in settings.shares:
                name = f"moh-{round(100 * share)}"
                models[name] = self.stage(
                    route_scratch,
                    dense,
                    settings=settings,
                    share=share,
                    seed=seed,
                    name=f"seed{seed}-scratch-{name}-start",
                )
            for name, model in models.items():
                made = self.train(
                    model,
                    text,
                    settings.train,
                    seed=seed,
                    name=f"seed{seed}-scratch-{name}",
                    keep=seed == self.config.seeds[0],
                )
                done[name] = (*done.get(name, ()), made)
        return done

    def train(
        self,
        model: Model,
        text: Artifact,
        settings: ContinueSettings,
        *,
        seed: int,
        name: str,
        keep: bool,
        teacher: Model | None = None,
    ) -> Artifact:
        """Train one arm with one seed; all arms of a seed see the same blocks in the same order."""
        return self.stage(
            train_arm,
            model,
            text,
            settings=settings,
            teacher=teacher,
            reading=self.reading(settings),
            keep=keep,
            machine=self.config.machine,
            seed=derive_seed(seed, "training"),
            name=name,
        )

    def reading(self, settings: ContinueSettings) -> Reading:
        """Return how held-back text is read: in blocks of the training's length."""
        return Reading(settings.max_length, self.config.text.held_back_blocks)

    def stage(self, function: Callable[..., None], *inputs: Any, name: str, **settings: Any) -> Artifact:
        """Run a stage."""
        return self.run.stage(function, *inputs, name=name, **settings)
