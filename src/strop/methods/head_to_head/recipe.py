"""Two models answer the same prompts and a judge compares their answers, in both orders, blind to who wrote which."""

from __future__ import annotations

from strop.judging.contest.answering import respond
from strop.judging.contest.duels import judge
from strop.judging.contest.results import summarise
from strop.methods.head_to_head.config import HeadToHeadConfig
from strop.methods.head_to_head.document import document
from strop.methods.head_to_head.preflight import preflight
from strop.methods.head_to_head.stages import draw, judge_anchor_set
from strop.records.document import Document
from strop.runs import Run, derive_seed


def head_to_head(config: HeadToHeadConfig, run: Run) -> Document:
    """Run the comparison and tell what came out. A judge that may not judge is refused before anything is asked."""
    c, cleared = config, preflight(config)
    prompts = run.stage(draw, c.prompts, fields=c.fields, group=c.group, limit=c.limit, seed=c.seed, name="prompts")
    first, second = (
        run.stage(
            respond,
            prompts,
            contestant,
            seed=derive_seed(c.seed, "answers", side),
            placement=c.machine,
            word_limit=c.word_limit,
            name=f"{side}-answers",
        )
        for side, contestant in (("first", c.first), ("second", c.second))
    )
    if c.judge.anchors:
        run.stage(judge_anchor_set, settings=c.judge, placement=c.machine, name="anchors")
    comparisons = run.stage(
        judge, prompts, first, second, settings=c.judge, seed=c.seed, placement=c.machine, name="comparisons"
    )
    results = run.stage(summarise, prompts, first, second, comparisons, settings=c.evaluation, name="results")
    return document(c, run, cleared, results=results, comparisons=comparisons)
