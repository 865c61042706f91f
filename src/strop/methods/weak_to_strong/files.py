"""Both stages on files. Rows stream through: memory stays flat as the files grow.

What a stage writes takes its place only when every row has been read, so that files which do not match leave nothing
behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from strop.errors import UserError
from strop.methods.weak_to_strong.agreement import AnswerRule
from strop.methods.weak_to_strong.algorithm import TopUp, stage_two
from strop.methods.weak_to_strong.audit import Quality, selection_quality
from strop.methods.weak_to_strong.contrast import PUBLISHED_THRESHOLDS, PairRule, Role, Thresholds
from strop.methods.weak_to_strong.data import (
    published_example,
    published_pair,
    read_answers,
    read_samples,
)
from strop.methods.weak_to_strong.joining import join_by_id
from strop.methods.weak_to_strong.selection import (
    AnswerPair,
    Decision,
    decide,
    draw_top_up,
    hybrid_examples,
    icl_examples,
    weak_examples,
)
from strop.records import Answer, Identifier, SampledAnswers
from strop.records.tables import iter_table, table_writer
from strop.records.training_forms import columns_pair

Fields = Mapping[str, str] | None

SETS = ("weak.json", "icl.json", "hybrid.json")
"""The training sets of Stage I, in the folder of a selection."""


@dataclass(frozen=True, slots=True)
class SelectionReport:
    """What `select_files` wrote and what became of every question."""

    rows: int
    kept: int
    topped_up: int
    decisions: Counter[Decision]

    def to_row(self) -> dict[str, Any]:
        """Return the counts as JSON; every decision is there, also one that no question came to."""
        return {
            "rows": self.rows,
            "kept": self.kept,
            "topped_up": self.topped_up,
            "decisions": {decision.value: self.decisions[decision] for decision in Decision},
        }


def select_files(
    weak: Path,
    strong: Path,
    rule: AnswerRule,
    *,
    out: Path,
    fields: Fields = None,
    allow_empty: bool = False,
    top_up: TopUp | None = None,
) -> SelectionReport:
    """Stage I on files: write ``weak.json``, ``icl.json`` and ``hybrid.json`` into the folder `out`.

    Args:
        weak: The weak model's answers.
        strong: The strong model's in-context answers to the same questions; its prompts are not used.
        rule: How final answers are read and compared.
        out: The folder; made where it does not exist.
        fields: Field names to map, in both files.
        allow_empty: See `strop.methods.weak_to_strong.selection.compare`.
        top_up: The unpublished MATH rule; it holds the disagreeing questions in memory.

    Raises:
        UserError: The files do not hold the same ids; nothing was written.
    """
    decisions: Counter[Decision] = Counter()
    different: list[AnswerPair] = []
    names = (str(weak), str(strong))
    joined = join_by_id(read_answers(weak, fields=fields), read_answers(strong, fields=fields), names=names)
    with _training_sets(out) as add:
        for pair, decision in decide((AnswerPair(*both) for both in joined), rule, allow_empty=allow_empty):
            decisions[decision] += 1
            if decision is Decision.AGREED:
                add([pair], [])
            elif decision is Decision.DIFFERENT and top_up:
                different.append(pair)
        missing = top_up.target - decisions[Decision.AGREED] if top_up else 0
        drawn = draw_top_up(different, missing=missing, random=top_up.random) if top_up else []
        add([], drawn)
    return SelectionReport(decisions.total(), decisions[Decision.AGREED] + len(drawn), len(drawn), decisions)


@contextmanager
def _training_sets(out: Path) -> Iterator[Callable[[list[AnswerPair], list[AnswerPair]], None]]:
    """Yield a function that adds agreed and topped-up questions to the three sets, which appear when the block ends."""
    with ExitStack() as stack:
        weak, icl, hybrid = (stack.enter_context(table_writer(out / name)) for name in SETS)

        def add(agreed: list[AnswerPair], topped_up: list[AnswerPair]) -> None:
            for example in weak_examples(agreed + topped_up):
                weak(published_example(example))
            for example in icl_examples(agreed + topped_up):
                icl(published_example(example))
            for example in hybrid_examples(agreed, topped_up):
                hybrid(published_example(example))

        yield add


@dataclass(frozen=True, slots=True)
class PairsReport:
    """What `pair_files` wrote, what became of every question, and how many prompts differ between the two files."""

    pairs: int
    questions: int
    different_prompts: int
    roles: Counter[Role]

    def to_row(self) -> dict[str, Any]:
        """Return the counts as JSON; every role is there, also one that no question took."""
        return {
            "pairs": self.pairs,
            "questions": self.questions,
            "different_prompts": self.different_prompts,
            "roles": {role.value: self.roles[role] for role in Role},
        }


def columns_path(out: Path) -> Path:
    """Return the name of the sibling of a pair file that has ``chosen`` and ``rejected`` columns."""
    stem, dot, suffix = out.name.removesuffix(".gz").rpartition(".")
    return out.with_name(f"{stem}_chosen_rejected{dot}{suffix}{'.gz' if out.suffix == '.gz' else ''}")


def pair_files(
    samples: Path,
    weak: Path,
    rule: AnswerRule,
    *,
    pairs: PairRule,
    out: Path,
    random: Random,
    fields: Fields = None,
    thresholds: Thresholds = PUBLISHED_THRESHOLDS,
) -> PairsReport:
    """Stage II on files: write preference pairs to `out`, and to `columns_path` in columns.

    Args:
        samples: The strong model's sampled answers, ``id, prompt, responses``; other fields, gold among them, are
            not read.
        weak: The original weak model's answers to the same questions.
        rule: How final answers are read and compared.
        pairs: One pair per question, or up to three.
        out: The file to write; its suffix decides the format.
        random: ``random.Random(42)`` gives the published stream.
        fields: Field names to map, in the file of samples.
        thresholds: The least shares of the vote.

    Raises:
        UserError: The files do not hold the same ids; nothing was written.
    """
    roles: Counter[Role] = Counter()
    different = 0

    def questions() -> Iterator[tuple[Answer, SampledAnswers]]:
        nonlocal different
        names = (str(samples), str(weak))
        for sampled, answer in join_by_id(read_samples(samples, fields=fields), read_answers(weak), names=names):
            different += sampled.prompt != answer.prompt
            yield answer, sampled

    count = 0
    with table_writer(out) as add, table_writer(columns_path(out)) as add_columns:
        for pair in stage_two(questions(), rule, pairs=pairs, thresholds=thresholds, random=random, roles=roles):
            add(published_pair(pair))
            add_columns(columns_pair(pair))
            count += 1
    return PairsReport(count, roles.total(), different, roles)


def read_gold(path: Path) -> dict[Identifier, str]:
    """Read gold answers by question id, for audits.

    A row states its gold answer as ``gold`` or ``answer``; a row without an id has the number of its line, from 0.

    Raises:
        UserError: A row has neither field.
    """
    gold: dict[Identifier, str] = {}
    for number, row in enumerate(iter_table(path)):
        answer = row.get("gold", row.get("answer"))
        if not isinstance(answer, (str, int, float)):
            raise UserError(f"{path}, row {number + 1}: no gold answer", alternatives=("gold", "answer"))
        gold[row.get("id", number)] = str(answer)
    return gold


def audit_selection(
    weak: Path,
    kept: Path,
    gold: Path,
    rule: AnswerRule,
    *,
    same: Callable[[str, str], bool | None],
    fields: Fields = None,
) -> Quality:
    """Return precision and recall of a selection of weak answers, from gold that the selection never saw.

    Args:
        weak: All answers of the weak model.
        kept: The kept ones: a training set of weak chains.
        gold: Gold answers; see `read_gold`.
        rule: How final answers are read.
        same: Tells whether a final answer equals a gold answer; None where it cannot tell.
        fields: Field names to map in the file of weak answers.

    Raises:
        UserError: No question of `weak` has gold.
    """
    known = read_gold(gold)
    chosen = {answer.id for answer in read_answers(kept)}
    answers = ((answer.id, rule.extract(answer.response)) for answer in read_answers(weak, fields=fields))
    quality = selection_quality(answers, chosen, known, same=same)
    if not quality.rows + quality.not_graded:
        raise UserError(f"no question of {weak} has a gold answer in {gold}", fix="number both by the same ids")
    return quality
