"""The stages that turn speeches into rated responses: a pool of models answers, a judge rates by the principles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from strop.judging.asking import Asking
from strop.judging.contest.answering import Contestant, addressed
from strop.judging.llm import judge_revision
from strop.judging.rating import Rating, rate
from strop.judging.rubric import Rubric, load_rubric
from strop.methods.preference.candidates import Draw, draw_candidates
from strop.methods.preference.config import Candidates, Ratings
from strop.models.asking import ask_each
from strop.models.placement import Placement, open_placed
from strop.models.protocol import Sampling, TextModel
from strop.records.rows import Answer
from strop.runs import Artifact, Stage, derive_seed
from strop.runs.calls import FailedCall


def answer_candidates(
    stage: Stage, speeches: Artifact, *, candidates: Candidates, seed: int, placement: Placement
) -> None:
    """Let each speech be answered by the models drawn for it: rated-response rows without ratings.

    A model whose answer does not come leaves a gap and a row in `failures.jsonl`: fewer responses, never an empty one.
    """
    rows = speeches.rows()
    draws = [draw_candidates(row["id"], candidates, seed=seed) for row in rows]
    asked: dict[int, list[tuple[int, Draw]]] = defaultdict(list)
    for place, drawn in enumerate(draws):
        for draw in drawn:
            asked[draw.model].append((place, draw))
    answers: dict[tuple[int, str], str] = {}
    failures: list[dict[str, Any]] = []
    for number, contestant in enumerate(candidates.pool):
        wanted = asked[number]
        prompts = [
            addressed(rows[place]["speech"], draw.system, word_limit=candidates.word_limit) for place, draw in wanted
        ]
        sampling = Sampling(
            contestant.temperature,
            max_tokens=contestant.max_tokens,
            seed=derive_seed(seed, "candidates", contestant.label),
        )
        for (place, draw), outcome in zip(
            wanted, _ask_all(stage, contestant, prompts, sampling, placement), strict=True
        ):
            if isinstance(outcome, FailedCall):
                lost = {"speech": rows[place]["id"], "model": contestant.label, "kind": outcome.kind}
                failures.append({**lost, "message": outcome.message})
            elif outcome.text.strip():
                answers[place, draw.id] = outcome.text
            else:
                failures.append(
                    {"speech": rows[place]["id"], "model": contestant.label, "kind": "empty", "message": ""}
                )
    stage.write_rows(
        {
            **row,
            "responses": [
                {"id": draw.id, "text": answers[place, draw.id], "model": candidates.pool[draw.model].label}
                for draw in drawn
                if (place, draw.id) in answers
            ],
        }
        for place, (row, drawn) in enumerate(zip(rows, draws, strict=True))
    )
    stage.write_rows(failures, "failures.jsonl")


def _ask_all(
    stage: Stage, contestant: Contestant, prompts: Sequence[Any], sampling: Sampling, placement: Placement
) -> list[Any]:
    if not prompts:
        return []
    model = open_placed(contestant.model, placement)
    try:
        with stage.progress(f"{stage.name}: {contestant.label}", len(prompts)) as advance:
            return [one for (one,) in ask_each(model, prompts, sampling, store=stage.store, advance=advance)]
    finally:
        model.close()


def rate_candidates(stage: Stage, answered: Artifact, *, ratings: Ratings, seed: int, placement: Placement) -> None:
    """Rate every response by every principle: rated-response rows, and `judge.json` with who judged.

    The judge sees the speech and one response; who wrote it is not in the question.
    """
    rubric = load_rubric(ratings.judge.rubric)
    rows = answered.rows()
    items = [Answer(f"{row['id']}/{one['id']}", row["speech"], one["text"]) for row in rows for one in row["responses"]]
    model = open_placed(ratings.judge.model, placement)
    try:
        first, *again = [
            _rate_once(stage, model, items, rubric, ratings, repeat=repeat, seed=seed)
            for repeat in range(ratings.repeats + 1)
        ]
        identity = {"name": model.name, "revision": judge_revision(model.revision, rubric, ratings.judge.asking)}
    finally:
        model.close()
    rated = {rating.id: (rating, [repeat[place] for repeat in again]) for place, rating in enumerate(first)}
    stage.write_rows(
        {**row, "responses": [{**one, **_rated(*rated[f"{row['id']}/{one['id']}"])} for one in row["responses"]]}
        for row in rows
    )
    identity["rubric"] = rubric.hash
    stage.write_json(identity, "judge.json")


def _rate_once(
    stage: Stage,
    model: TextModel,
    items: Sequence[Answer],
    rubric: Rubric,
    ratings: Ratings,
    *,
    repeat: int,
    seed: int,
) -> list[Rating]:
    asking: Asking = ratings.judge.asking
    if repeat:
        warm = replace(
            asking.sampling, temperature=ratings.repeat_temperature, seed=derive_seed(seed, "repeat", repeat)
        )
        asking = replace(asking, sampling=warm)
    calls = len(items) * (len(rubric.criteria) if ratings.mode == "each" else 1)
    told = f"{stage.name}: {model.name}" + (f", repeat {repeat}" if repeat else "")
    with stage.progress(told, calls) as advance:
        return rate(
            model,
            items,
            rubric=rubric,
            store=stage.store,
            asking=asking,
            mode=ratings.mode,
            seed=seed,
            advance=advance,
        )


def _rated(rating: Rating, again: Sequence[Rating]) -> dict[str, Any]:
    row = rating.to_row()
    told: dict[str, Any] = {"ratings": row["ratings"], "gate": rating.gate}
    if row["failures"]:
        told["failures"] = row["failures"]
    if again:
        told["repeats"] = [repeat.to_row()["ratings"] for repeat in again]
    return told
