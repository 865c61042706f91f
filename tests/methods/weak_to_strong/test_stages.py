"""Stages are functions of artifacts: gold never reaches what builds a training set, and rows are matched by id."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strop.errors import UserError
from strop.methods.weak_to_strong import stages
from strop.methods.weak_to_strong.config import Demonstrations, FilesData, StageOne, StageTwo, StoriesData
from strop.runs import Artifact, Config, Run
from strop.runs.content import hash_tree

UNREADABLE = "\\int_0^"
"""A gold text that the strict comparison cannot read, so that nothing can be compared with it."""
GRADING: dict[str, Any] = {"key": "gsm8k", "mode": "strict"}
TRAIN = {"learning_rate": 1e-3, "max_steps": 1}
STAGE_ONE = StageOne.model_validate({"train": TRAIN})
STAGE_TWO = StageTwo.model_validate({"train": {"dpo": {"loss": "dpo", "beta": 0.1, **TRAIN}}})

Rows = Sequence[Mapping[str, Any]]
Make = Callable[..., Artifact]


class NoSettings(Config):
    """A run without settings of its own."""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with Run.open(tmp_path / "run", config=NoSettings(), origins={}, seed=0, workspace=tmp_path, quiet=True) as opened:
        yield opened


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write tables into a folder and return it as an artifact."""
    counter = iter(range(1000))

    def artifact(**tables: Rows) -> Artifact:
        folder = tmp_path / f"made-{next(counter)}"
        folder.mkdir()
        for name, rows in tables.items():
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return Artifact(folder.name, folder, hash_tree(folder))

    return artifact


def prompt(number: int) -> str:
    return f"Question: {number}?\nAnswer:"


def answers(*values: int | None, ids: Sequence[int] | None = None) -> Rows:
    """One response a value: ``#### value``, or a text without an answer for None."""
    numbers = ids or range(len(values))
    return [
        {"id": number, "prompt": prompt(number), "response": "no idea" if value is None else f"#### {value}"}
        for number, value in zip(numbers, values, strict=True)
    ]


def samples(*rows: Sequence[int], ids: Sequence[int] | None = None) -> Rows:
    numbers = ids or range(len(rows))
    return [
        {"id": number, "prompt": prompt(number), "responses": [f"sample {i}\n#### {v}" for i, v in enumerate(values)]}
        for number, values in zip(numbers, rows, strict=True)
    ]


def gold(*values: int) -> Rows:
    return [{"id": number, "gold": str(value)} for number, value in enumerate(values)]


class TestQuestions:
    def test_questions_are_ids_and_prompts_and_nothing_else(self, run: Run) -> None:
        data = StoriesData(train_1=5, train_2=7, test=6)
        drawn = run.stage(stages.draw_questions, data, seed=3, name="questions")
        assert sorted(path.name for path in drawn.folder.iterdir()) == ["test.jsonl", "train_2.jsonl"]
        assert (len(drawn.rows("train_2.jsonl")), len(drawn.rows("test.jsonl"))) == (7, 6)
        for split in ("train_2", "test"):
            assert all(set(row) == {"id", "prompt"} for row in drawn.rows(f"{split}.jsonl"))
            assert "####" not in drawn.path(f"{split}.jsonl").read_text()

    def test_questions_of_files_leave_gold_behind(self, run: Run, tmp_path: Path) -> None:
        path = tmp_path / "gsm8k.jsonl"
        path.write_text(json.dumps({"question": "1 + 1?", "answer": "It is 77123.\n#### 77123"}) + "\n")
        data = FilesData(kind="files", train_2=path, test=path)
        drawn = run.stage(stages.draw_questions, data, seed=0, name="questions")
        assert drawn.rows("train_2.jsonl") == [{"id": 0, "prompt": "Question: 1 + 1?\nAnswer:"}]
        assert b"77123" not in b"".join(file.read_bytes() for file in drawn.folder.iterdir())

    def test_gold_stands_beside_the_same_ids(self, run: Run) -> None:
        data = StoriesData(train_1=5, train_2=7, test=6)
        drawn = run.stage(stages.draw_questions, data, seed=3, name="questions")
        known = run.stage(stages.draw_gold, data, seed=3, name="gold")
        for split in ("train_2", "test"):
            prompts = {row["id"]: row["prompt"] for row in drawn.rows(f"{split}.jsonl")}
            assert {row["id"]: row["prompt"] for row in known.rows(f"{split}_solutions.jsonl")} == prompts
            for row, solution in zip(known.rows(f"{split}.jsonl"), known.rows(f"{split}_solutions.jsonl"), strict=True):
                assert solution["response"].endswith(f"#### {row['gold']}")


class TestSelect:
    def test_agreed_answers_are_kept(self, run: Run, make: Make) -> None:
        """Weak 1, 2, -, 4 and in-context 1, 3, 3, 4: questions 0 and 3 agree."""
        chosen = run.stage(
            stages.select,
            make(rows=answers(1, 2, None, 4)),
            make(rows=answers(1, 3, 3, 4)),
            settings=STAGE_ONE,
            seed=0,
            **GRADING,
            name="selection",
        )
        assert [row["id"] for row in chosen.rows("weak.jsonl")] == [0, 3]
        assert [row["id"] for row in chosen.rows("hybrid.jsonl")] == [0, 0, 3, 3]
        assert [row["kept"] for row in chosen.rows("decisions.jsonl")] == [True, False, False, True]

    def test_rows_in_another_order_are_matched_by_id(self, run: Run, make: Make) -> None:
        """In-context answers 3, 2, 1, 0 with values 4, 3, 3, 1 are the answers 1, 3, 3, 4 of questions 0 to 3."""
        chosen = run.stage(
            stages.select,
            make(rows=answers(1, 2, None, 4)),
            make(rows=answers(4, 3, 3, 1, ids=[3, 2, 1, 0])),
            settings=STAGE_ONE,
            seed=0,
            **GRADING,
            name="selection",
        )
        assert [row["id"] for row in chosen.rows("weak.jsonl")] == [0, 3]

    @pytest.mark.parametrize("icl", [answers(1, 2, ids=[0, 7]), answers(1), answers(1, 2, 3, ids=[0, 1, 7])])
    def test_misaligned_answers_are_refused_and_the_ids_named(self, run: Run, make: Make, icl: Rows) -> None:
        with pytest.raises(UserError, match=r"ids of .* are missing from .*: [17]"):
            run.stage(
                stages.select,
                make(rows=answers(1, 2)),
                make(rows=icl),
                settings=STAGE_ONE,
                seed=0,
                **GRADING,
                name="selection",
            )

    def test_repeated_ids_are_refused(self, run: Run, make: Make) -> None:
        with pytest.raises(UserError, match="id 0 occurs more than once"):
            run.stage(
                stages.select,
                make(rows=answers(1, 2, ids=[0, 0])),
                make(rows=answers(1, 2, ids=[0, 0])),
                settings=STAGE_ONE,
                seed=0,
                **GRADING,
                name="selection",
            )

    def test_no_agreement_stops_the_run_with_the_decisions(self, run: Run, make: Make) -> None:
        with pytest.raises(UserError, match="agree on no question"):
            run.stage(
                stages.select,
                make(rows=answers(1)),
                make(rows=answers(2)),
                settings=STAGE_ONE,
                seed=0,
                **GRADING,
                name="selection",
            )


class TestPair:
    def test_a_clear_vote_against_the_weak_answer_rejects_it(self, run: Run, make: Make) -> None:
        """Question 0: all four samples say 5, the weak model 1. Question 1: three of four say 2, as the weak model."""
        made = run.stage(
            stages.pair,
            make(rows=samples((5, 5, 5, 5), (2, 2, 2, 3))),
            make(rows=answers(1, 2)),
            settings=STAGE_TWO,
            **GRADING,
            name="pairs",
        )
        first, second = made.rows("pairs.jsonl")
        assert (first["rejected"], second["chosen"]) == ("#### 1", "#### 2")
        assert first["chosen"].endswith("#### 5")
        assert second["rejected"].endswith("#### 3")

    def test_order_does_not_matter_but_ids_do(self, run: Run, make: Make) -> None:
        arguments = {"settings": STAGE_TWO, **GRADING}
        weak, straight = make(rows=answers(1, 2)), make(rows=samples((5, 5, 5, 5), (2, 2, 2, 3)))
        turned = make(rows=samples((2, 2, 2, 3), (5, 5, 5, 5), ids=[1, 0]))
        one = run.stage(stages.pair, straight, weak, **arguments, name="one")
        two = run.stage(stages.pair, turned, weak, **arguments, name="two")
        assert one.digest == two.digest
        with pytest.raises(UserError, match=r"are missing from .*: 1"):
            run.stage(stages.pair, make(rows=samples((5, 5), (2, 3), ids=[0, 9])), weak, **arguments, name="three")

    @pytest.mark.parametrize(("keep", "used"), [(0.6, True), (0.61, False)])
    def test_six_of_ten_reach_six_tenths(self, run: Run, make: Make, keep: float, used: bool) -> None:
        voted = make(rows=samples((1, 1, 1, 1, 1, 1, 2, 3, 4, 5), (5,) * 10))
        changed = STAGE_TWO.model_copy(update={"keep": keep})
        made = run.stage(stages.pair, voted, make(rows=answers(1, 9)), settings=changed, **GRADING, name="pairs")
        assert [row["id"] for row in made.rows("pairs.jsonl")] == ([0, 1] if used else [1])


class TestGold:
    @settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.permutations(range(4)))
    def test_scrambled_gold_changes_what_is_reported_and_never_what_is_built(
        self, tmp_path_factory: pytest.TempPathFactory, make: Make, order: list[int]
    ) -> None:
        """Gold 1, 2, 3, 4 in any order: selection and pairs stay byte for byte, the labels' grades follow gold."""
        workspace = tmp_path_factory.mktemp("scrambled")
        weak, icl = make(rows=answers(1, 2, 3, 4)), make(rows=answers(1, 2, 9, 9))
        voted = make(rows=samples(*[(5, 5, 5, 5)] * 4))
        with Run.open(
            workspace / "run", config=NoSettings(), origins={}, seed=0, workspace=workspace, quiet=True
        ) as opened:
            digests, graded = set(), []
            for name, values in (("right", [1, 2, 3, 4]), ("scrambled", [order[i] + 1 for i in range(4)])):
                known = make(train_2=gold(*values))
                chosen = opened.stage(
                    stages.select, weak, icl, settings=STAGE_ONE, seed=0, **GRADING, name=f"{name}-selection"
                )
                pairs = opened.stage(stages.pair, voted, weak, settings=STAGE_TWO, **GRADING, name=f"{name}-pairs")
                labels = opened.stage(stages.examine_labels, weak, icl, chosen, known, **GRADING, name=f"{name}-labels")
                digests.add((chosen.digest, pairs.digest))
                graded.append([row["weak_correct"] for row in labels.rows("labels.jsonl")])
        assert len(digests) == 1
        assert graded == [[True] * 4, [position == value for position, value in enumerate(order)]]

    def test_random_demonstrations_need_no_gold(self, run: Run, make: Make) -> None:
        shown = run.stage(
            stages.choose_demonstrations,
            make(rows=answers(1, None, 3)),
            Demonstrations(count=2),
            **GRADING,
            seed=0,
            gold=None,
            name="demonstrations",
        )
        assert {row["id"] for row in shown.rows()} == {0, 2}

    def test_correct_demonstrations_do(self, run: Run, make: Make) -> None:
        weak, wanted = make(rows=answers(1, 2, 3)), Demonstrations(count=1, choice="first_correct")
        with pytest.raises(UserError, match="needs gold"):
            run.stage(stages.choose_demonstrations, weak, wanted, **GRADING, seed=0, gold=None, name="without")
        known = make(train_2=gold(9, 2, 9))
        shown = run.stage(stages.choose_demonstrations, weak, wanted, **GRADING, seed=0, gold=known, name="with")
        assert [row["id"] for row in shown.rows()] == [1]

    def test_an_answer_without_gold_is_no_correct_demonstration(self, run: Run, make: Make) -> None:
        """Gold knows question 0 only, and the weak answer to it is right: it is the one that can be shown."""
        shown = run.stage(
            stages.choose_demonstrations,
            make(rows=answers(1, 2)),
            Demonstrations(count=1, choice="first_correct"),
            **GRADING,
            seed=0,
            gold=make(train_2=gold(1)),
            name="demonstrations",
        )
        assert [row["id"] for row in shown.rows()] == [0]


class TestExaminations:
    def test_misaligned_labels_are_refused(self, run: Run, make: Make) -> None:
        decisions = make(decisions=[{"id": 0, "kept": True}])
        with pytest.raises(UserError, match="missing"):
            run.stage(
                stages.examine_labels,
                make(rows=answers(1)),
                make(rows=answers(1, ids=[4])),
                decisions,
                make(train_2=gold(1)),
                **GRADING,
                name="labels",
            )

    def test_pairs_without_gold_are_left_out(self, run: Run, make: Make) -> None:
        rows = [{"id": number, "prompt": "", "chosen": "#### 1", "rejected": "#### 2"} for number in (0, 8)]
        sides = run.stage(stages.examine_pairs, make(pairs=rows), make(train_2=gold(1)), **GRADING, name="sides")
        assert sides.rows("sides.jsonl") == [{"id": 0, "chosen_correct": True, "rejected_correct": False}]

    def test_samples_that_cannot_be_graded_are_no_wrong_ones(self, run: Run, make: Make) -> None:
        r"""The gold text is no mathematics to the grader: 7 cannot be compared with it, and is no wrong sample."""
        voted = make(rows=samples((1, 2), (7, 7)))
        known = make(test=[{"id": 0, "gold": "1"}, {"id": 1, "gold": UNREADABLE}])
        passes = run.stage(stages.count_passes, voted, known, **GRADING, name="passes").rows("passes.jsonl")
        assert [row["flags"] for row in passes] == [[True, False], [None, None]]

    def test_shuffled_answers_are_the_same_texts_at_other_questions(self, run: Run, make: Make) -> None:
        given_rows = answers(*range(20))
        mixed = run.stage(stages.shuffle_answers, make(rows=given_rows), seed=1, name="shuffled").rows()
        assert [row["id"] for row in mixed] == [row["id"] for row in given_rows]
        assert sorted(row["response"] for row in mixed) == sorted(row["response"] for row in given_rows)
        assert [row["response"] for row in mixed] != [row["response"] for row in given_rows]


def test_test_questions_without_gold_are_named(run: Run, tmp_path: Path) -> None:
    """OlympicArena's public test rows state no answer: nothing could be graded on them."""
    row = {"prompt": "p\n\nproblem:\nq", "subject": "Math", "language": "EN", "answer_type": "NV"}
    path = tmp_path / "test.jsonl"
    path.write_text(
        json.dumps({"id": "Math_1", **row, "answer": ["4"]}) + "\n" + json.dumps({"id": "Math_2", **row}) + "\n"
    )
    data = FilesData(kind="files", format="olympicarena", train_2=path, test=path)
    with pytest.raises(UserError, match=r"1 test questions have no gold answer: got \['Math_2'\]"):
        run.stage(stages.draw_gold, data, seed=0, name="gold")
