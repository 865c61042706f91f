"""Batch inference on a Ray cluster: batches are cut here, computed by the cluster's workers, and stored here.

Ray Data places the workers, hands them batches, and starts a worker that died anew; nothing of that is done here.
"""

from __future__ import annotations

import warnings
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from strop.errors import Stopped, StropError, UserError
from strop.models.batching import Batch
from strop.models.cluster.fronts import open_front, settled
from strop.models.cluster.ray_cluster import CLUSTER, import_ray, passed_on
from strop.models.cluster.ray_rows import Answer, Row, answer_of, answer_row, batch_rows, calls_of
from strop.models.cluster.ray_vllm import vllm_answers
from strop.models.opening import open_model
from strop.models.placement import Placement
from strop.models.protocol import Call, Inquiring, Outcome, TextModel
from strop.models.spec import ModelSpec
from strop.runs.budget import Price
from strop.runs.calls import Ability

RESTARTS = 8
"""How often a worker is started anew, and a batch handed out again, before the run stops."""
CALLS_AT_ONCE = 65_536
"""About how many calls one dataset holds; the workers load the model once for each dataset."""


class RayModel:
    """A model whose replicas answer on the workers of a Ray cluster."""

    def __init__(self, spec: ModelSpec, placement: Placement) -> None:
        """Prepare; the cluster is joined when the first batch needs it.

        Args:
            spec: Which model. Its files must have the same paths on all machines of the cluster.
            placement: How many workers, what each takes of the cluster, and where the cluster is.

        Raises:
            UserError: As `open_model`, as far as that shows without weights; Ray is not installed; or a device is
                named that only Ray can choose.
        """
        spec.check()
        import_ray()
        self._placement = placement
        self._spec = settled(spec, device=placement.device, dtype=placement.dtype)
        self._front = open_front(self._spec)
        self._joined = False
        self.abilities: dict[str, Ability] = {}
        """What workers have found out about the server they ask; see `Inquiring`."""

    @property
    def name(self) -> str:
        """What the model is called without Ray."""
        return self._front.name

    @property
    def revision(self) -> str:
        """The model's without Ray: who computes is no part of it."""
        return self._front.revision

    @property
    def price(self) -> Price | None:
        """The model's without Ray."""
        return self._front.price

    def complete(
        self, calls: Iterable[Call], *, done: Container[int] = frozenset()
    ) -> Iterator[list[tuple[int, Outcome]]]:
        """Yield batches as they come back, in any order; see `TextModel.complete`.

        Raises:
            Stopped: Workers died again and again; or as the model without Ray.
            UserError: As the model without Ray; the replicas do not fit; or a worker holds another model.
        """
        for batches in grouped(self._front.batches(calls, done=done), CALLS_AT_ONCE):
            yield from self._compute(self._join(), batches)

    def close(self) -> None:
        """Leave the cluster; one of our own ends with its last user."""
        if self._joined:
            self._joined = False
            CLUSTER.leave()

    def _join(self) -> ModuleType:
        ray = import_ray()
        if not self._joined:
            CLUSTER.join(self._placement.ray_address)
            self._joined = True
            if CLUSTER.own:
                self._check_room(ray.cluster_resources())
        return ray

    def _check_room(self, there: Mapping[str, float]) -> None:
        # A cluster of our own does not grow: replicas that do not fit would be waited for without end.
        for resource, each in self._resources().items():
            if self._placement.replicas * each > there.get(resource, 0.0):
                key = f"{resource.lower()}s_per_replica"
                raise UserError(
                    "the replicas do not fit on this machine",
                    value=f"{self._placement.replicas} with {key}: {each:g}",
                    why=f"it has {there.get(resource, 0.0):g} {resource}s",
                    fix=f"lower replicas or {key}",
                )

    def _resources(self) -> dict[str, float]:
        on_gpu = self._spec.device == "cuda" or self._spec.kind == "vllm"
        return {"CPU": self._placement.cpus_per_replica} | ({"GPU": self._placement.gpus_per_replica} if on_gpu else {})

    def _compute(self, ray: ModuleType, batches: Sequence[Batch]) -> Iterator[list[tuple[int, Outcome]]]:
        try:
            for number, answer in self._stream(ray, batches):
                self.abilities |= answer.abilities
                places = batches[number].places
                yield [(places[index], outcome) for index, outcome in answer.outcomes]
                if answer.stop is not None:
                    raise answer.stop
        except ray.exceptions.RayTaskError:  # a defect inside a worker, told as it would be without Ray
            raise
        except ray.exceptions.RayError as error:
            raise Stopped(
                "Ray could not keep the workers alive",
                value=f"{self._placement.replicas} replicas of {self.name}",
                why=" ".join(str(error).split())[:500],
                fix="give each more memory (fewer replicas, a smaller batch_size) and run the same command again: the "
                "answered calls are kept",
            ) from error

    def _stream(self, ray: ModuleType, batches: Sequence[Batch]) -> Iterator[tuple[int, Answer]]:
        numbered = list(enumerate(batches))
        if self._spec.kind == "vllm":
            datasets = vllm_answers(ray, numbered, self._spec, self._placement)
        else:
            datasets = iter([self._replica_answers(ray, batch_rows(numbered))])
        for dataset in datasets:
            for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for row in block.to_pylist():
                    yield row["batch"], answer_of(row)

    def _replica_answers(self, ray: ModuleType, rows: list[Row]) -> Any:
        """Return the dataset of answers; a row is a whole batch, and a block of its own, so that workers share them."""
        resources = self._resources()
        with warnings.catch_warnings():
            # The two limits are remote arguments, which Ray 2.64 will take in another way.
            warnings.simplefilter("ignore", DeprecationWarning)
            return ray.data.from_items(rows, override_num_blocks=len(rows)).map(
                Replica,
                fn_constructor_args=(self._spec, self.revision, dict(self.abilities)),
                compute=ray.data.ActorPoolStrategy(size=min(self._placement.replicas, len(rows))),
                num_cpus=resources["CPU"],
                num_gpus=resources.get("GPU", 0),
                # The workers of a cluster of our own have this process's environment.
                runtime_env=None if CLUSTER.own else {"env_vars": passed_on()},
                max_restarts=RESTARTS,
                max_task_retries=RESTARTS,
            )


def grouped(batches: Iterator[Batch], calls: int) -> Iterator[list[Batch]]:
    """Yield batches in groups of at least `calls` calls; the last group may be smaller."""
    group: list[Batch] = []
    size = 0
    for batch in batches:
        group.append(batch)
        size += len(batch.calls)
        if size >= calls:
            yield group
            group, size = [], 0
    if group:
        yield group


class Replica:
    """One worker: holds the model, or a client of its server, and answers batches."""

    def __init__(self, spec: ModelSpec, revision: str, abilities: Mapping[str, Ability]) -> None:
        """Remember what to open; an error of opening is an answer then, not the death of the worker.

        Args:
            spec: The model, settled.
            revision: What it must turn out to be.
            abilities: What is known of its server.
        """
        self._spec, self._revision, self._known = spec, revision, abilities
        self._model: TextModel | None = None

    def __call__(self, row: Row) -> Row:
        """Answer the batch of one row."""
        return answer_row(row["batch"], self._answer(calls_of(row)))

    def _answer(self, calls: list[Call]) -> Answer:
        outcomes: list[tuple[int, Outcome]] = []
        try:
            # A batch that is cut again stays as it is.
            for finished in self._open().complete(calls):
                outcomes += finished
        except StropError as stop:
            return Answer(outcomes, stop=stop, abilities=self._abilities)
        return Answer(outcomes, abilities=self._abilities)

    @property
    def _abilities(self) -> dict[str, Ability]:
        return dict(self._model.abilities) if isinstance(self._model, Inquiring) else {}

    def _open(self) -> TextModel:
        if self._model is None:
            model = open_model(self._spec)
            if model.revision != self._revision:
                raise UserError(
                    "a worker holds another model under this name",
                    value=self._spec.model,
                    why=f"its revision is {model.revision}; where the run was started it is {self._revision}",
                    fix="put the same files on all machines of the cluster",
                )
            if isinstance(model, Inquiring):
                model.abilities.update(self._known)
            self._model = model
        return self._model
