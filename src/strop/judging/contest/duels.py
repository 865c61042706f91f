"""The stage in which a judge compares two contestants' answers, in both orders and blind to who wrote which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any, Literal

from strop.errors import UserError
from strop.judging.judge import Comparison, Duel, PairJudge, mirrored
from strop.judging.opening import open_judge
from strop.judging.parsing import ParseFailure
from strop.judging.settings import JudgeSettings, open_configured
from strop.models.asking import Advance
from strop.models.placement import Placement
from strop.records.rows import Identifier, prompt_from_json
from strop.runs import Artifact, Stage, stream

Side = Literal["first", "second"]


def judge(
    stage: Stage,
    prompts: Artifact,
    first: Artifact,
    second: Artifact,
    *,
    settings: JudgeSettings | Artifact,
    seed: int,
    placement: Placement,
) -> None:
    """Compare the answers in both orders: `rows.jsonl`, one comparison a prompt that both have answered.

    Which contestant stands first is drawn for each prompt, so that not even a judge with a lean in both orders can
    favour one of them.

    Args:
        stage: Where to write and to ask.
        prompts: Rows of `id`, `prompt` and `group`.
        first: Rows of `id` and `response` of the contestant whose win rate is told.
        second: Its opponent's.
        settings: The judge; an artifact is a reward model that the run has trained.
        seed: Of who stands first.
        placement: Where the judge's model answers.

    Raises:
        UserError: There is no prompt that both have answered.
        Stopped: Too many replies could not be read.
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
        stage.progress(f"{stage.name}: comparing", 2 * len(duels)) as advance,
        _open(settings, placement, stage, advance) as judging,
    ):
        made = judging.compare(duels)
        stage.note(judge=judging.name, revision=judging.revision)
        identity = {"name": judging.name, "revision": judging.revision}
    stage.write_json(identity, "judge.json")
    rows = (_turned_back(one) if turned[one.id] else one for one in made)
    stage.write_rows(_row(one, row, answers["first"], answers["second"]) for one, row in zip(rows, both, strict=True))


def _open(
    settings: JudgeSettings | Artifact, placement: Placement, stage: Stage, advance: Advance
) -> AbstractContextManager[PairJudge]:
    if isinstance(settings, JudgeSettings):
        return open_configured(settings, placement, store=stage.store, advance=advance)
    return open_judge(str(settings.path("model")), rubric=None, store=stage.store, placement=placement, advance=advance)


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
