"""The stages of a head-to-head comparison: draw prompts, answer them twice, compare the answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Literal

from strop.errors import UserError
from strop.judging.anchors import judge_anchors, record_anchors
from strop.judging.judge import Comparison, Duel, mirrored
from strop.judging.parsing import ParseFailure
from strop.judging.settings import JudgeSettings, open_configured
from strop.methods.head_to_head.config import Contestant
from strop.models.asking import ask_each
from strop.models.placement import Placement, open_placed
from strop.models.protocol import Sampling
from strop.records.rows import Identifier, Message, Prompt, prompt_from_json, prompt_to_json
from strop.records.tables import iter_table
from strop.runs import Artifact, Stage, stream
from strop.runs.calls import FailedCall

Side = Literal["first", "second"]
Numbered = tuple[int, dict[str, Any]]


def draw(
    stage: Stage, prompts: Path, *, fields: dict[str, str], group: str | None, limit: int | None, seed: int
) -> None:
    """Write the prompts to compare on, in the order of the file: `id`, `prompt`, `group`."""
    rows = (
        (number, _drawn(row, number, prompts, group)) for number, row in enumerate(iter_table(prompts, fields=fields))
    )
    chosen = rows if limit is None else iter(sorted(_sample(rows, limit, stream(seed, "prompts"))))
    stage.write_rows(row for _, row in chosen)


def _drawn(row: dict[str, Any], number: int, path: Path, group: str | None) -> dict[str, Any]:
    where = f"{path}, row {number + 1}"
    for name in ("prompt", *([group] if group else [])):
        if name not in row:
            fix = "map one of its fields with fields, or correct 'group'"
            raise UserError(f"{where}: no field {name!r}", value=sorted(row), fix=fix)
    prompt = prompt_to_json(prompt_from_json(row["prompt"]))
    together = row[group] if group else json.dumps(prompt, ensure_ascii=False)
    return {"id": row.get("id", number), "prompt": prompt, "group": str(together)}


def _sample(rows: Iterable[Numbered], size: int, random: Random) -> list[Numbered]:
    """Return a uniform sample without holding the rest (algorithm R, Vitter 1985)."""
    stream_of_rows = iter(rows)
    kept = list(islice(stream_of_rows, size))
    for seen, row in enumerate(stream_of_rows, size + 1):
        place = random.randrange(seen)
        if place < size:
            kept[place] = row
    return kept


def respond(stage: Stage, prompts: Artifact, contestant: Contestant, *, seed: int, placement: Placement) -> None:
    """Let a contestant answer: `rows.jsonl` with `id` and `response`, `failures.jsonl` for prompts without answer."""
    rows = prompts.rows()
    asked = [addressed(prompt_from_json(row["prompt"]), contestant.system) for row in rows]
    sampling = Sampling(contestant.temperature, max_tokens=contestant.max_tokens, seed=seed)
    model = open_placed(contestant.model, placement)
    answers: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    try:
        with stage.progress(f"{stage.name}: {contestant.label}", len(rows)) as advance:
            outcomes = ask_each(model, asked, sampling, store=stage.store, advance=advance)
            for row, (outcome,) in zip(rows, outcomes, strict=True):
                if isinstance(outcome, FailedCall):
                    failures.append({"id": row["id"], "kind": outcome.kind, "message": outcome.message})
                else:
                    answers.append({"id": row["id"], "response": outcome.text, "finish": outcome.finish})
    finally:
        model.close()
    stage.write_rows(answers)
    stage.write_rows(failures, "failures.jsonl")


def addressed(prompt: Prompt, system: str) -> Prompt:
    """Return the prompt as a contestant gets it: a conversation, with its system message in front."""
    turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    return (Message("system", system), *turns) if system else turns


def judge(
    stage: Stage,
    prompts: Artifact,
    first: Artifact,
    second: Artifact,
    *,
    settings: JudgeSettings,
    seed: int,
    placement: Placement,
) -> None:
    """Compare the answers in both orders: `rows.jsonl`, one comparison a prompt that both have answered.

    Which contestant stands first is drawn for each prompt, so that not even a judge with a lean in both orders can
    favour one of them.
    """
    answers = {side: {row["id"]: row["response"] for row in made.rows()} for side, made in sides(first, second)}
    both = [row for row in prompts.rows() if all(row["id"] in answers[side] for side in answers)]
    if not both:
        raise UserError("the contestants have answered no prompt in common", fix="look at failures.jsonl of both")
    turned = {row["id"]: stream(seed, "sides", row["id"]).random() < 0.5 for row in both}
    duels = []
    for row in both:
        duel = Duel(
            row["id"],
            prompt_from_json(row["prompt"]),
            answers["first"][row["id"]],
            answers["second"][row["id"]],
        )
        duels.append(duel.swapped() if turned[row["id"]] else duel)
    with (
        stage.progress(f"{stage.name}: {settings.model.model}", 2 * len(duels)) as advance,
        open_configured(settings, placement, store=stage.store, advance=advance) as judging,
    ):
        made = judging.compare(duels)
        stage.note(judge=judging.name, revision=judging.revision)
        identity = {"name": judging.name, "revision": judging.revision}
    (stage.folder / "judge.json").write_text(json.dumps(identity, indent=1) + "\n", encoding="utf-8")
    rows = (_turned_back(one) if turned[one.id] else one for one in made)
    stage.write_rows(_row(one, row, answers["first"], answers["second"]) for one, row in zip(rows, both, strict=True))


def sides(first: Artifact, second: Artifact) -> tuple[tuple[Side, Artifact], tuple[Side, Artifact]]:
    """Return both artifacts with the side that each stands for."""
    return ("first", first), ("second", second)


def _turned_back(comparison: Comparison) -> Comparison:
    """Return a comparison of a swapped duel as one of the duel itself."""

    def back(verdict: Any) -> Any:
        return None if verdict is None else mirrored(verdict)

    return Comparison(
        id=comparison.id,
        verdict=back(comparison.verdict),
        forward=back(comparison.backward),
        backward=back(comparison.forward),
        strength=None if comparison.strength is None else 1 - comparison.strength,
        criteria={key: back(verdict) for key, verdict in comparison.criteria.items()},
    )


def _row(
    comparison: Comparison, prompt: dict[str, Any], first: dict[Identifier, str], second: dict[Identifier, str]
) -> dict[str, Any]:
    def told(verdict: object) -> object:
        return {"failure": asdict(verdict)} if isinstance(verdict, ParseFailure) else verdict

    return {
        "id": comparison.id,
        "group": prompt["group"],
        "verdict": comparison.verdict,
        "forward": told(comparison.forward),
        "backward": told(comparison.backward),
        "strength": comparison.strength,
        "criteria": dict(comparison.criteria),
        "words_first": len(first[comparison.id].split()),
        "words_second": len(second[comparison.id].split()),
    }


def read_comparisons(rows: Iterable[dict[str, Any]]) -> Iterator[Comparison]:
    """Yield the comparisons that `judge` wrote."""

    def read(told: Any) -> Any:
        return ParseFailure(**told["failure"]) if isinstance(told, dict) else told

    for row in rows:
        yield Comparison(
            id=row["id"],
            verdict=row["verdict"],
            forward=read(row["forward"]),
            backward=read(row["backward"]),
            strength=row["strength"],
            criteria=row["criteria"],
        )


def judge_anchor_set(stage: Stage, *, settings: JudgeSettings, placement: Placement) -> None:
    """Judge the anchors anew and keep the result in the workspace: `anchors.jsonl`, one verdict a pair.

    The artifact holds the verdicts alone: how they differ from the last run's is a fact about the workspace.
    """
    with open_configured(settings, placement, store=stage.store) as judging:
        result = judge_anchors(judging, calls=stage.work / "anchors.sqlite")
    record_anchors(stage.store.path.parent, result)
    stage.write_rows(
        (
            {"id": pair, "verdict": verdict, "flipped": pair in result.flipped}
            for pair, verdict in result.verdicts.items()
        ),
        "anchors.jsonl",
    )
